using System.Text.Json.Nodes;
using FastDraft.Server.Definitions;
using FastDraft.Server.Designer.Descriptors;
using FastDraft.Server.Designer.Instances;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Definitions;

/// <summary>One definition: what the editor opens, and what a run ran (its own copy, whatever became of the definition since).</summary>
internal static class GetDefinition
{
    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapGet("/workflow-definitions/by-definition-id/{definitionId}", async (string definitionId, string? versionOptions, DefinitionStore definitions, CancellationToken ct) =>
            VersionSelection.Parse(versionOptions) is { } selection && await definitions.FindAsync(definitionId, selection, ct) is { } found
                ? Results.Ok(DefinitionView.Of(found)) : Problems.NotFound("such workflow"));

        api.MapGet("/workflow-definitions/by-id/{id}", async (string id, DefinitionStore definitions, InstanceReader instances, CancellationToken ct) =>
            await FindAsync(id, definitions, instances, ct) is { } found ? Results.Ok(DefinitionView.Of(found)) : Problems.NotFound("such version"));

        api.MapGet("/workflow-definitions/many-by-id", async (string[] ids, DefinitionStore definitions, InstanceReader instances, CancellationToken ct) =>
        {
            var found = new List<JsonObject>();
            foreach (var id in ids)
            {
                if (await FindAsync(id, definitions, instances, ct) is { } definition && definition.WhyUnreadable() is null)
                {
                    found.Add(DefinitionView.Of(definition));
                }
            }

            return new ListResponse<JsonObject>(found);
        });
    }

    public static async Task<StoredDefinition?> FindAsync(string versionId, DefinitionStore definitions, InstanceReader instances, CancellationToken ct) =>
        InstanceReader.RunOf(versionId) is { } run ? await instances.FindDefinitionAsync(run, ct) : await definitions.FindVersionAsync(versionId, ct);
}
