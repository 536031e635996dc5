using FastDraft.Server.Definitions;
using FastDraft.Server.Designer.Instances;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Definitions;

internal sealed record DefinitionPage(IReadOnlyList<DefinitionSummary> Items, int TotalCount)
{
    public IReadOnlyList<Link> Links => DefinitionLinks.OfList;
}

/// <summary>The list page, the name check of the create dialog, and the versions of one definition.</summary>
internal static class ListDefinitions
{
    private const int MaxPageSize = 1000;

    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapGet("/workflow-definitions", async (
            string? versionOptions, int? page, int? pageSize, string? searchTerm, string[]? definitionIds, string[]? ids, bool? isSystem, string? orderBy, string? orderDirection,
            DefinitionStore definitions, InstanceReader instances, CancellationToken ct) =>
        {
            if (VersionSelection.Parse(versionOptions) is not { } selection)
            {
                return Problems.Result(StatusCodes.Status400BadRequest, $"versionOptions '{versionOptions}' is none of Latest, Published, Draft, LatestOrPublished, LatestAndPublished, AllVersions or a number.");
            }

            // The list of runs asks for the version that each of them ran, and shows no run without it; a run has a copy of its own.
            if (ids is { Length: > 0 })
            {
                var versions = new List<DefinitionSummary>();
                foreach (var id in ids.Distinct())
                {
                    if (await GetDefinition.FindAsync(id, definitions, instances, ct) is { } version)
                    {
                        versions.Add(DefinitionSummary.Of(version.Head, version.WhyUnreadable()));
                    }
                }

                return Results.Ok(new DefinitionPage(versions, versions.Count));
            }

            var found = (await definitions.ListAsync(selection, ct)).Where(h =>
                isSystem != true
                && (definitionIds is not { Length: > 0 } || definitionIds.Contains(h.DefinitionId))
                && (string.IsNullOrWhiteSpace(searchTerm) || Matches(h, searchTerm.Trim())));
            var descending = "Descending".Equals(orderDirection, StringComparison.OrdinalIgnoreCase);
            var ordered = Ordered(found, orderBy, descending).ToList();
            var size = Math.Clamp(pageSize ?? MaxPageSize, 1, MaxPageSize);
            var items = new List<DefinitionSummary>();
            foreach (var head in ordered.Skip((int)Math.Min((long)Math.Max(page ?? 0, 0) * size, int.MaxValue)).Take(size))
            {
                items.Add(DefinitionSummary.Of(head, (await definitions.FindVersionAsync(head.Id, ct))?.WhyUnreadable()));
            }

            return Results.Ok(new DefinitionPage(items, ordered.Count));
        });

        api.MapGet("/workflow-definitions/query/count", async (DefinitionStore definitions, CancellationToken ct) =>
            new { Count = (await definitions.ListAsync(VersionSelection.Latest, ct)).Count });

        api.MapGet("/workflow-definitions/validation/is-name-unique", async (string name, string? definitionId, DefinitionStore definitions, CancellationToken ct) =>
            new { IsUnique = !(await definitions.ListAsync(VersionSelection.Latest, ct)).Any(h => h.DefinitionId != definitionId && h.Name.Equals(name.Trim(), StringComparison.OrdinalIgnoreCase)) });

        api.MapGet("/workflow-definitions/{definitionId}/versions", async (string definitionId, DefinitionStore definitions, CancellationToken ct) =>
        {
            var versions = (await definitions.ListAsync(VersionSelection.All, ct)).Where(h => h.DefinitionId == definitionId).ToList();
            return versions.Count == 0 ? Problems.NotFound("such workflow") : Results.Ok(new DefinitionPage([.. versions.Select(h => DefinitionSummary.Of(h))], versions.Count));
        });

        // No workflow is an activity of another one here, so none has consumers to update.
        api.MapGet("/workflow-definitions/{definitionId}/consumers", (string definitionId) => new { ConsumingWorkflowDefinitionIds = Array.Empty<string>() });
        api.MapPost("/workflow-definitions/{definitionId}/update-references", (string definitionId) => new { AffectedWorkflows = Array.Empty<string>() });
    }

    private static bool Matches(DefinitionHead head, string term) =>
        head.Name.Contains(term, StringComparison.OrdinalIgnoreCase) || head.DefinitionId.Contains(term, StringComparison.OrdinalIgnoreCase)
        || head.Description?.Contains(term, StringComparison.OrdinalIgnoreCase) is true || head.Id == term;

    private static IEnumerable<DefinitionHead> Ordered(IEnumerable<DefinitionHead> heads, string? by, bool descending) => by?.ToUpperInvariant() switch
    {
        "CREATED" => descending ? heads.OrderByDescending(h => h.CreatedAt) : heads.OrderBy(h => h.CreatedAt),
        "VERSION" => descending ? heads.OrderByDescending(h => h.Version) : heads.OrderBy(h => h.Version),
        "NAME" => descending ? heads.OrderByDescending(h => h.Name, StringComparer.OrdinalIgnoreCase) : heads.OrderBy(h => h.Name, StringComparer.OrdinalIgnoreCase),
        _ => heads.OrderBy(h => h.IsReadOnly).ThenByDescending(h => h.IsReadOnly ? default : h.CreatedAt).ThenBy(h => h.Name, StringComparer.OrdinalIgnoreCase),
    };
}
