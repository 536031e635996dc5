using System.Globalization;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using FastDraft.Server.Web;
using FastDraft.Storage.FileSystem;
using FastDraft.Storage.S3;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Artifacts;

/// <summary>
/// Downloads. Of a bucket the bytes come from the bucket itself, by an address that the service signs and that expires; of a data folder
/// from here. They come as a file to keep, whatever they are: nothing in an artifact is a page of this service.
/// </summary>
internal static class ArtifactsApi
{
    /// <summary>Says until when the address works, as a date of HTTP.</summary>
    public const string ExpiryHeader = "FastDraft-Link-Expires";

    private static readonly TimeSpan LinkValid = TimeSpan.FromMinutes(15);

    public static void Map(IEndpointRouteBuilder app) => app.MapGet("/api/artifacts/{digest}/files/{**path}", async (string digest, string path, PipelineStore store, PipelineOptions options, HttpResponse response, CancellationToken ct) =>
    {
        if (!Digest.TryParse(digest, out var parsed) || await store.Queries.GetArtifactAsync(digest, ct) is null)
        {
            return Problems.NotFound("such artifact");
        }

        try
        {
            if ((await store.Artifacts.ManifestAsync(parsed, ct)).Files.FirstOrDefault(f => f.Path == path) is not { } file)
            {
                return Problems.NotFound("such file in the artifact");
            }

            if (store.Artifacts is FileSystemArtifactStore folder)
            {
                return Results.File(await folder.OpenAsync(parsed, file, ct), "application/octet-stream", Path.GetFileName(file.Path));
            }

            var bucket = (S3ArtifactStore)store.Artifacts;
            response.Headers[ExpiryHeader] = (options.Clock.GetUtcNow() + LinkValid).ToString("R", CultureInfo.InvariantCulture);
            response.Headers.CacheControl = "no-store";
            return Results.Redirect((await bucket.LinkAsync(file, LinkValid)).AbsoluteUri);
        }
        catch (StageFailureException e)
        {
            return Problems.Result(e.Kind == FailureKind.Data ? StatusCodes.Status410Gone : StatusCodes.Status503ServiceUnavailable, e.Message);
        }
    }).Produces(StatusCodes.Status302Found).WithSummary("A file of an artifact: leads to the bucket, by an address that expires");
}
