using System.Net;

namespace FastDraft.Storage.S3;

/// <summary>
/// Stands below the SDK, which tries once, waits without end and reads answers with calls that nothing can cancel: here a request is
/// tried as often as settings allow, and its answer is read whole, within the limits, before the SDK sees it. Bodies of blobs do not
/// pass here.
/// </summary>
internal sealed class S3Transport(HttpMessageHandler inner, S3Tries tries) : DelegatingHandler(inner)
{
    // A page of a listing names a thousand objects.
    private const int MaxAnswerBytes = 16 << 20;

    protected override Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken) =>
        tries.RunAsync($"{Verb(request.Method)} '{request.RequestUri!.AbsolutePath}'", async stillness =>
        {
            var response = await base.SendAsync(request, stillness.Token);
            try
            {
                ThrowIfTransient(response.StatusCode);
                var answer = await ReadAsync(response, stillness);
                var content = new ByteArrayContent(answer);
                foreach (var header in response.Content.Headers)
                {
                    content.Headers.TryAddWithoutValidation(header.Key, header.Value);
                }

                (response.Content, var network) = (content, response.Content);
                network.Dispose();
                return response;
            }
            catch
            {
                response.Dispose();
                throw;
            }
        }, cancellationToken);

    private static string Verb(HttpMethod method) => method == HttpMethod.Delete ? "delete" : "list";

    /// <summary>The whole body of a small answer.</summary>
    /// <exception cref="TransientException">The connection broke, or the body is shorter than was announced.</exception>
    public static async Task<byte[]> ReadAsync(HttpResponseMessage response, Stillness stillness)
    {
        using var answer = new MemoryStream();
        try
        {
            await using var body = await response.Content.ReadAsStreamAsync(stillness.Token);
            var buffer = new byte[64 << 10];
            int read;
            while ((read = await body.ReadAsync(buffer, stillness.Token)) > 0)
            {
                stillness.Moved();
                answer.Write(buffer, 0, read);
                if (answer.Length > MaxAnswerBytes)
                {
                    throw new TransientException($"the answer is longer than {MaxAnswerBytes} bytes.");
                }
            }
        }
        catch (IOException e)
        {
            throw new TransientException("the connection broke: " + e.Message, e);
        }

        return answer.ToArray();
    }

    /// <exception cref="TransientException">The server says that later may be better.</exception>
    public static void ThrowIfTransient(HttpStatusCode status)
    {
        if (status is HttpStatusCode.RequestTimeout or HttpStatusCode.TooManyRequests or >= HttpStatusCode.InternalServerError and not HttpStatusCode.NotImplemented)
        {
            throw new TransientException($"it answered {(int)status} {status}.");
        }
    }
}
