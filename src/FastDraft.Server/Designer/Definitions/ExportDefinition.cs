using System.IO.Compression;
using System.Text.Json;
using FastDraft.Server.Definitions;
using FastDraft.Server.Designer.Instances;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Definitions;

internal sealed record ExportRequest(string[]? Ids, bool IncludeConsumingWorkflows = false);

/// <summary>One definition as a file that <c>fastdraft run</c> takes and that can be imported again; several as a zip.</summary>
internal static class ExportDefinition
{
    private const string Schema = "https://elsaworkflows.io/schemas/workflow-definition/v3.0.0/schema.json";
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapGet("/workflow-definitions/{definitionId}/export", async (string definitionId, string? versionOptions, DefinitionStore definitions, CancellationToken ct) =>
            VersionSelection.Parse(versionOptions) is { } selection && await definitions.FindAsync(definitionId, selection, ct) is { } found
                ? Results.File(ToFile(found), "application/json", FileName(found)) : Problems.NotFound("such workflow"));

        api.MapPost("/bulk-actions/export/workflow-definitions", async (ExportRequest request, DefinitionStore definitions, InstanceReader instances, CancellationToken ct) =>
        {
            var found = new List<StoredDefinition>();
            foreach (var id in (request.Ids ?? []).Distinct())
            {
                if (await GetDefinition.FindAsync(id, definitions, instances, ct) is { } definition && definition.WhyUnreadable() is null)
                {
                    found.Add(definition);
                }
            }

            return found.Count switch
            {
                0 => Problems.NotFound("such version"),
                1 => Results.File(ToFile(found[0]), "application/json", FileName(found[0])),
                _ => Results.File(Zip(found), "application/zip", "workflow-definitions.zip"),
            };
        });
    }

    public static byte[] ToFile(StoredDefinition definition)
    {
        var document = definition.ToDocument();
        document.Insert(0, "$schema", Schema);
        return JsonSerializer.SerializeToUtf8Bytes(document, Indented);
    }

    private static byte[] Zip(IEnumerable<StoredDefinition> definitions)
    {
        using var bytes = new MemoryStream();
        using (var zip = new ZipArchive(bytes, ZipArchiveMode.Create, leaveOpen: true))
        {
            foreach (var definition in definitions)
            {
                using var entry = zip.CreateEntry(FileName(definition)).Open();
                entry.Write(ToFile(definition));
            }
        }

        return bytes.ToArray();
    }

    // A definition's id is legal in a file name by its own rule; that of a file which ships is checked when it is read.
    private static string FileName(StoredDefinition definition) => $"{definition.Head.DefinitionId}-v{definition.Head.Version}.json";
}
