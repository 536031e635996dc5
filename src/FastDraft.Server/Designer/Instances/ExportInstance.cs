using System.IO.Compression;
using System.Text.Json;
using FastDraft.Server.Designer.Definitions;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Instances;

/// <summary>Everything that the designer shows of a run, as a file; several as a zip.</summary>
internal static class ExportInstance
{
    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapGet("/workflow-instances/{id}/export", async (string id, InstanceReader instances, CancellationToken ct) =>
            await instances.FindAsync(id, ct) is { } run ? Results.File(ToFile(run), "application/json", FileName(run)) : Problems.NotFound("such run"));

        api.MapPost("/bulk-actions/export/workflow-instances", async (IdsRequest request, InstanceReader instances, CancellationToken ct) =>
        {
            using var bytes = new MemoryStream();
            using (var zip = new ZipArchive(bytes, ZipArchiveMode.Create, leaveOpen: true))
            {
                foreach (var id in (request.Ids ?? []).Distinct())
                {
                    if (await instances.FindAsync(id, ct) is { } run)
                    {
                        using var entry = zip.CreateEntry(FileName(run)).Open();
                        entry.Write(ToFile(run));
                    }
                }
            }

            return Results.File(bytes.ToArray(), "application/zip", "workflow-instances.zip");
        });
    }

    private static byte[] ToFile(RunInstance run) => JsonSerializer.SerializeToUtf8Bytes(
        new { WorkflowInstance = run.ToInstance(), WorkflowExecutionLogRecords = run.Journal(), ActivityExecutionRecords = run.Executions() }, ApiJson.Options);

    private static string FileName(RunInstance run) => $"workflow-instance-{run.Run.Id}.json";
}
