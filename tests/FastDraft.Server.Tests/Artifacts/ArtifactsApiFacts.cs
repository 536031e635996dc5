using System.Net;
using System.Net.Http.Headers;
using FastDraft.Core.Artifacts;
using FastDraft.Persistence;
using FastDraft.Persistence.Security;
using FastDraft.Server.Security;
using FastDraft.Server.Web;
using FastDraft.Storage.S3;
using FastDraft.TestKit;

namespace FastDraft.Server.Tests.Artifacts;

public sealed class ArtifactsApiFacts
{
    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_file_of_a_data_folder_is_sent_as_a_file_to_keep_and_only_while_its_bytes_are_whole()
    {
        using var folder = new TestFolder();
        var options = new PipelineOptions { DataFolder = folder.Path, WorkerFile = "none", Stages = [] };
        await using var host = await PipelineHost.StartAsync(options, Token);
        var source = Directory.CreateTempSubdirectory("fastdraft-").FullName;
        await File.WriteAllTextAsync(Path.Combine(source, "page.html"), "<script>alert(1)</script>", Token);
        var (digest, manifest) = await host.Store.Artifacts.PutFolderAsync(ArtifactKind.Corpus, source, Token);
        Directory.Delete(source, recursive: true);
        await using (var db = host.Store.Open())
        {
            db.Artifacts.Add(new ArtifactRow { Digest = digest.ToString(), Kind = ArtifactKind.Corpus });
            await db.SaveChangesAsync(Token);
        }

        await using var web = await PipelineWeb.StartAsync(host, options, new WebOptions { Url = new Uri("http://127.0.0.1:0") }, Token);
        using var http = new HttpClient { BaseAddress = web.Address };
        var (_, secret) = await new CredentialStore(host.Store, options.Clock).CreateTokenAsync("tests", Role.Viewer, TimeSpan.FromHours(1), Token);
        http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", secret);
        var address = new Uri($"api/artifacts/{digest}/files/page.html", UriKind.Relative);
        using var answer = await http.GetAsync(address, Token);
        Assert.Equal(("application/octet-stream", "attachment", "<script>alert(1)</script>"), (answer.Content.Headers.ContentType?.MediaType, answer.Content.Headers.ContentDisposition?.DispositionType, await answer.Content.ReadAsStringAsync(Token)));
        Assert.Equal(HttpStatusCode.NotFound, (await http.GetAsync(new Uri($"api/artifacts/{digest}/files/..%2f..%2fpipeline.db", UriKind.Relative), Token)).StatusCode);

        var blob = ((FastDraft.Storage.FileSystem.FileSystemArtifactStore)host.Store.Artifacts).BlobPath(manifest.Files[0].Digest);
        File.Delete(blob);
        await File.WriteAllTextAsync(blob, "<script>alert(2)</script>", Token);
        Assert.Equal(HttpStatusCode.Gone, (await http.GetAsync(address, Token)).StatusCode);
    }

    [Fact]
    public async Task A_file_of_an_artifact_is_fetched_from_the_bucket_by_an_address_that_expires()
    {
        Assert.SkipUnless(S3Server.Missing is null, S3Server.Missing ?? "");
        await using var server = await S3Server.StartAsync();
        using var folder = new TestFolder();
        var options = new PipelineOptions
        {
            DataFolder = folder.Path,
            WorkerFile = "none",
            Stages = [],
            Settings = new PipelineSettings { Store = new S3Settings { Endpoint = server.Address, Bucket = S3Server.Bucket, AccessKey = "tester", SecretKey = "tester-secret" } },
        };
        await using var host = await PipelineHost.StartAsync(options, Token);
        var source = Directory.CreateTempSubdirectory("fastdraft-").FullName;
        Directory.CreateDirectory(Path.Combine(source, "deep"));
        await File.WriteAllTextAsync(Path.Combine(source, "deep", "a b.txt"), "text", Token);
        var (digest, _) = await host.Store.Artifacts.PutFolderAsync(ArtifactKind.Corpus, source, Token);
        Directory.Delete(source, recursive: true);
        await using (var db = host.Store.Open())
        {
            db.Artifacts.Add(new ArtifactRow { Digest = digest.ToString(), Kind = ArtifactKind.Corpus });
            await db.SaveChangesAsync(Token);
        }

        await using var web = await PipelineWeb.StartAsync(host, options, new WebOptions { Url = new Uri("http://127.0.0.1:0") }, Token);
        using var http = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false }) { BaseAddress = web.Address };
        var (_, secret) = await new CredentialStore(host.Store, options.Clock).CreateTokenAsync("tests", Role.Viewer, TimeSpan.FromHours(1), Token);
        http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", secret);
        using var answer = await http.GetAsync(new Uri($"api/artifacts/{digest}/files/deep/a%20b.txt", UriKind.Relative), Token);
        Assert.Equal(HttpStatusCode.Redirect, answer.StatusCode);
        Assert.Contains("X-Amz-Expires=900", answer.Headers.Location!.Query, StringComparison.Ordinal);
        Assert.True(answer.Headers.Contains("FastDraft-Link-Expires"));
        using var anybody = new HttpClient();
        Assert.Equal("text", await anybody.GetStringAsync(answer.Headers.Location, Token));
        foreach (var missing in new[] { $"{digest}/files/other.txt", $"{Digest.OfBytes("x"u8)}/files/a", "..%2f..%2fetc/files/passwd", $"{digest}/files/..%2fa" })
        {
            Assert.Equal(HttpStatusCode.NotFound, (await http.GetAsync(new Uri("api/artifacts/" + missing, UriKind.Relative), Token)).StatusCode);
        }
    }
}
