using System.Net.Http.Headers;
using System.Text;
using FastDraft.Persistence;

namespace FastDraft.Server.Projections.OpenLineage;

/// <summary>Sends run events to an address, or appends them to a file, one JSON object a line.</summary>
internal sealed class OpenLineageProjection : IProjection
{
    private readonly PipelineStore store;
    private readonly Uri? address;
    private readonly string? file;
    private readonly HttpClient http;
    private bool isWhole;

    public OpenLineageProjection(ProjectionOptions options, PipelineStore store)
    {
        this.store = store;
        http = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false, PooledConnectionLifetime = TimeSpan.FromMinutes(5) }) { Timeout = options.Timeout };
        if (options.OpenLineageToken is not null)
        {
            http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", options.OpenLineageToken);
        }

        if (Uri.TryCreate(options.OpenLineage, UriKind.Absolute, out var uri) && (uri.Scheme == Uri.UriSchemeHttp || uri.Scheme == Uri.UriSchemeHttps))
        {
            address = uri;
        }
        else
        {
            file = Path.GetFullPath(options.OpenLineage!);
        }
    }

    public string Name => "openlineage";

    public void Dispose() => http.Dispose();

    public async Task DeliverAsync(OutboxEventRow told, CancellationToken ct)
    {
        if (told.Kind is OutboxEventKind.DraftRegistered or OutboxEventKind.AliasMoved or OutboxEventKind.StageRetried)
        {
            return;
        }

        var lines = OpenLineageEvents.Of(told, await ToldRun.ReadAsync(store, told, ct)).Select(e => e.ToJsonString()).ToList();
        if (lines.Count > 0 && file is not null)
        {
            Append(lines);
        }
        else if (address is not null)
        {
            foreach (var line in lines)
            {
                using var request = new HttpRequestMessage(HttpMethod.Post, address) { Content = new StringContent(line, Encoding.UTF8, "application/json") };
                using var response = await DeliveryException.SendAsync(http, request, ct);
                await DeliveryException.EnsureTakenAsync(response, ct);
            }
        }
    }

    /// <summary>On the disk before the event counts as delivered.</summary>
    private void Append(IReadOnlyList<string> lines)
    {
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(file)!);
            using var stream = new FileStream(file!, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);
            if (!isWhole)
            {
                CutTornLine(stream);
                isWhole = true;
            }

            stream.Seek(0, SeekOrigin.End);
            stream.Write(Encoding.UTF8.GetBytes(string.Join('\n', lines) + "\n"));
            stream.Flush(flushToDisk: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // What was written of a line, if anything, is cut before the next try.
            isWhole = false;
            throw new DeliveryException(DeliveryFault.Away, $"'{file}' cannot be appended to: {e.Message}", inner: e);
        }
    }

    /// <summary>A process that died while it wrote leaves part of a line; its event was not delivered and is written again.</summary>
    private static void CutTornLine(FileStream stream)
    {
        var end = stream.Length;
        while (end > 0)
        {
            stream.Position = end - 1;
            if (stream.ReadByte() == '\n')
            {
                break;
            }

            end--;
        }

        stream.SetLength(end);
    }
}
