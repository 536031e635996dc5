using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using FastDraft.Server.Tests.Runs;
using FastDraft.TestKit;

namespace FastDraft.Server.Tests.Security;

/// <summary>Every text of the corpus in every place where the service takes a name, an id or an upload: a file beside the data folder is neither read nor touched, and none appears.</summary>
public sealed partial class TraversalFacts : IAsyncLifetime
{
    private const string Canary = "canary-4d1f0b";
    private const int AtOnce = 8;

    private readonly RunningService service = new() { HasStudio = true };

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    private string Outside => Path.Join(Directory.GetParent(service.DataFolder)!.FullName, "canary.txt");

    private IReadOnlyList<string> Corpus => PathTraversal.Corpus(service.DataFolder, "canary.txt", Outside);

    public async ValueTask InitializeAsync()
    {
        await service.InitializeAsync();
        await File.WriteAllTextAsync(Outside, Canary, Ct);
    }

    public ValueTask DisposeAsync() => service.DisposeAsync();

    [Fact]
    public void There_are_more_than_five_hundred() => Assert.InRange(Corpus.Count, 500, 1000);

    [Fact]
    public async Task In_every_place_of_every_address()
    {
        var before = Surroundings();
        var requests = service.Routes.Where(r => Places().IsMatch(r)).Distinct().SelectMany(Requests).ToList();
        Assert.True(requests.Count > 10_000);
        var wrong = new System.Collections.Concurrent.ConcurrentBag<string>();
        await Parallel.ForEachAsync(requests, new ParallelOptions { MaxDegreeOfParallelism = AtOnce, CancellationToken = Ct }, async (request, ct) =>
        {
            using var message = new HttpRequestMessage(new HttpMethod(request.Method), new Uri(service.Address.GetLeftPart(UriPartial.Authority) + request.Path, new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true }))
            {
                Content = request.Method == "GET" ? null : new StringContent("{}", Encoding.UTF8, "application/json"),
            };
            using var response = await service.Http.SendAsync(message, HttpCompletionOption.ResponseHeadersRead, ct);
            if (response.Content.Headers.ContentType?.MediaType == "text/event-stream")
            {
                return;
            }

            var body = await response.Content.ReadAsStringAsync(ct);
            if (body.Contains(Canary, StringComparison.Ordinal) || body.Contains("root:x:0", StringComparison.Ordinal) || (int)response.StatusCode == 500)
            {
                wrong.Add($"{request.Method} {request.Path}: {(int)response.StatusCode}");
            }
        });
        Assert.True(wrong.IsEmpty, string.Join('\n', wrong.Take(20)));
        Assert.Equal(before, Surroundings());
    }

    [Fact]
    public async Task In_names_and_ids_of_what_is_sent_and_of_files_that_are_uploaded()
    {
        var before = Surroundings();
        var wrong = new System.Collections.Concurrent.ConcurrentBag<string>();
        await Parallel.ForEachAsync(Corpus.Select((text, n) => (text, n)), new ParallelOptions { MaxDegreeOfParallelism = AtOnce, CancellationToken = Ct }, async (one, _) =>
        {
            var (text, n) = one;
            var definition = RunsApiFacts.Line("x");
            (definition["definitionId"], definition["name"]) = (text, text);
            definition["root"]!["activities"]![0]!["id"] = text;
            await CheckAsync("run of an id", await PostAsync("/api/runs", new JsonObject { ["workflow"] = text }));
            await CheckAsync("save", await PostAsync(RunningService.Api + "/workflow-definitions", new JsonObject { ["model"] = definition.DeepClone(), ["publish"] = false }));
            await CheckAsync("import", await PostAsync(RunningService.Api + "/workflow-definitions/import", definition.DeepClone()));
            using var file = new ByteArrayContent(Encoding.UTF8.GetBytes(definition.ToJsonString())) { Headers = { ContentType = new MediaTypeHeaderValue("application/json") } };
            file.Headers.TryAddWithoutValidation("Content-Disposition", $"form-data; name=\"files\"; filename=\"{new string([.. text.Where(c => c is >= ' ' and < '\u007f' and not '"')])}\"");
            using var form = new MultipartFormDataContent();
            form.Add(file);
            await CheckAsync("upload", await service.Http.PostAsync(new Uri(RunningService.Api + "/workflow-definitions/import-files", UriKind.Relative), form, Ct));

            // A run and all its folders, for some of them: each takes a while.
            if (n % 10 == 0)
            {
                var started = await PostAsync("/api/runs", new JsonObject { ["definition"] = definition });
                var id = (string?)JsonNode.Parse(await started.Content.ReadAsStringAsync(Ct))?["id"];
                await CheckAsync("run", started);
                if (id is not null)
                {
                    await service.EndAsync(Guid.Parse(id));
                    await CheckAsync("retry", await PostAsync($"/api/runs/{id}/retry", new JsonObject { ["settings"] = new JsonObject { [text] = new JsonObject { [text] = text, ["accelerator"] = text } } }));
                }
            }

            async Task CheckAsync(string what, HttpResponseMessage response)
            {
                var body = await response.Content.ReadAsStringAsync(Ct);
                if (body.Contains(Canary, StringComparison.Ordinal) || (int)response.StatusCode == 500)
                {
                    wrong.Add($"{what} {JsonSerializer.Serialize(text)}: {(int)response.StatusCode} {body}");
                }

                response.Dispose();
            }
        });
        Assert.True(wrong.IsEmpty, string.Join('\n', wrong.Take(20)));
        Assert.Equal(before, Surroundings());
    }

    /// <summary>Each text in each place, the others filled with something; encoded, so that it arrives there, and where an address takes slashes also as it is.</summary>
    private IEnumerable<(string Method, string Path)> Requests(string address)
    {
        var (method, pattern) = (address.Split(' ')[0], address.Split(' ')[1]);
        var places = Places().Matches(pattern).ToList();
        for (var place = 0; place < places.Count; place++)
        {
            var takesSlashes = places[place].Value.Contains("**", StringComparison.Ordinal);
            foreach (var text in Corpus)
            {
                foreach (var written in takesSlashes && text.All(c => c is > ' ' and < '\u007f' and not ('"' or '<' or '>' or '\\' or '^' or '`' or '{' or '|' or '}' or '#' or '?')) ? [Encoded(text), text] : (string[])[Encoded(text)])
                {
                    var n = 0;
                    yield return (method == "*" ? "GET" : method, Places().Replace(pattern, m => n++ == place ? written : m.Value.Contains(":guid", StringComparison.Ordinal) ? Guid.Empty.ToString() : m.Value.Contains(":int", StringComparison.Ordinal) ? "1" : "x"));
                }
            }
        }
    }

    private static string Encoded(string text) => string.Concat(Encoding.UTF8.GetBytes(text).Select(b => char.IsAsciiLetterOrDigit((char)b) ? ((char)b).ToString() : $"%{b:X2}"));

    private Task<HttpResponseMessage> PostAsync(string path, JsonNode body) => service.Http.PostAsync(new Uri(path, UriKind.Relative), new StringContent(body.ToJsonString(), Encoding.UTF8, "application/json"), Ct);

    private static IEnumerable<string> Above(string folder)
    {
        for (var at = new DirectoryInfo(folder); at is not null; at = at.Parent)
        {
            yield return at.FullName;
        }
    }

    /// <summary>What lies beside the data folder, and whether the file that the texts lead to has come into being further up.</summary>
    private IReadOnlyList<string> Surroundings()
    {
        var parent = Directory.GetParent(service.DataFolder)!;
        return
        [
            .. parent.EnumerateFileSystemInfos("*", SearchOption.AllDirectories).Where(f => !f.FullName.StartsWith(service.DataFolder + "/", StringComparison.Ordinal) && f.FullName != service.DataFolder)
                .Select(f => $"{f.FullName} {f.LastWriteTimeUtc:O} {(f is FileInfo file ? file.Length : 0)}").Order(StringComparer.Ordinal),
            .. Above(Environment.CurrentDirectory).Concat(Above(parent.FullName)).Select(f => Path.Join(f, "canary.txt")).Where(File.Exists),
        ];
    }

    [GeneratedRegex(@"\{[^}]*\}")]
    private static partial Regex Places();
}
