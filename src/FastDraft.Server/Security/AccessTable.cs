using System.Security.Claims;
using FastDraft.Persistence.Security;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Security;

/// <summary>
/// Every address of the service and the least role that may use it. What is not here is closed to everyone: an address comes into being by
/// its row. An address is its method and its pattern, compared whole, never by how it begins or ends.
/// </summary>
internal static class AccessTable
{
    private const string Elsa = "/elsa/api";

    /// <summary>Answered without a token: whether the service lives, and the way in.</summary>
    public static IReadOnlySet<string> Open { get; } = new HashSet<string>(StringComparer.Ordinal)
    {
        "GET /health/live", "GET /health/ready", "GET /login", "POST /login",
    };

    public static IReadOnlyDictionary<string, Role> Least { get; } = Rows(
        (Role.Viewer,
        [
            "POST /logout", "GET /site.css", "GET /metrics",
            .. Pages(
                "/", "/runs", "/runs/{Id:guid}", "/runs/compare", "/artifacts/{Digest}", "/lineage", "/lineage/{Reference}", "/models", "/models/{Name}", "/schedules", "/schedules/{Name}",
                "/approvals", "/audit", "/reports/{Digest}", "/nothing-here"),
            "GET /assets/{version}/{name}", "GET /reports/{digest}/page",
            "* /_blazor", "* /_blazor/negotiate", "* /_blazor/disconnect", "* /_blazor/initializers", "GET /_framework/opaque-redirect",
            "* /hangfire/{**path}",
            "GET /studio", "GET /studio/workflows/definitions", "GET /studio/workflows/instances", "GET /studio/workflows/definitions/{id}/edit", "GET /studio/workflows/instances/{id}/view",
            "GET /workflows/{**rest}", "GET /studio.js", "GET /studio.css", "GET /studio/{**file}",
            "GET /api/openapi.json", "GET /api/audit", "GET /api/drafts", "GET /api/drafts/{name}", "GET /api/drafts/{name}/history", "GET /api/gates", "GET /api/projections",
            "GET /api/runs", "GET /api/runs/{run:guid}", "GET /api/runs/{run:guid}/definition", "GET /api/runs/{run:guid}/events", "GET /api/runs/{run:guid}/mlflow",
            "GET /api/runs/{run:guid}/stages/{stage}/logs", "GET /api/runs/{run:guid}/stages/{stage}/metrics", "GET /api/runs/{run:guid}/stages/{stage}/curves",
            "GET /api/artifacts/{digest}/files/{**path}", "GET /api/artifacts/{digest}/lineage", "GET /api/artifacts/{digest}/provenance", "GET /api/artifacts/{digest}/card",
            $"GET {Elsa}/descriptors/activities", $"POST {Elsa}/descriptors/activities/{{typeName}}/options/{{propertyName}}", $"GET {Elsa}/features/installed",
            $"GET {Elsa}/features/installed/{{fullName}}", $"GET {Elsa}/package/version", $"GET {Elsa}/descriptors/expression-descriptors",
            $"POST {Elsa}/scripting/javascript/type-definitions/{{definitionId}}", $"GET {Elsa}/descriptors/variables", $"GET {Elsa}/descriptors/storage-drivers",
            $"GET {Elsa}/descriptors/incident-strategies", $"GET {Elsa}/descriptors/workflow-activation-strategies", $"GET {Elsa}/descriptors/log-persistence-strategies",
            $"GET {Elsa}/descriptors/commit-strategies/workflows", $"GET {Elsa}/descriptors/commit-strategies/activities", $"GET {Elsa}/descriptors/output-converters", $"GET {Elsa}/workflow-definitions/{{definitionId}}/export",
            $"POST {Elsa}/bulk-actions/export/workflow-definitions", $"GET {Elsa}/workflow-definitions/subgraph/{{id}}", $"GET {Elsa}/workflow-definitions/subgraph/segments/{{id}}",
            $"GET {Elsa}/workflow-definitions", $"GET {Elsa}/workflow-definitions/query/count", $"GET {Elsa}/workflow-definitions/validation/is-name-unique",
            $"GET {Elsa}/workflow-definitions/{{definitionId}}/versions", $"GET {Elsa}/workflow-definitions/{{definitionId}}/consumers",
            $"GET {Elsa}/workflow-definitions/by-definition-id/{{definitionId}}", $"GET {Elsa}/workflow-definitions/by-id/{{id}}", $"GET {Elsa}/workflow-definitions/many-by-id",
            $"GET {Elsa}/workflow-instances/{{id}}/journal", $"POST {Elsa}/workflow-instances/{{id}}/journal", $"POST {Elsa}/workflow-instances", $"GET {Elsa}/workflow-instances/{{id}}",
            $"GET {Elsa}/workflow-instances/{{id}}/execution-state", $"GET {Elsa}/workflow-instances/{{id}}/variables", $"GET {Elsa}/workflow-instances/{{id}}/progress",
            $"POST {Elsa}/activity-executions/report", $"GET {Elsa}/activity-executions/list", $"GET {Elsa}/activity-execution-summaries/list", $"GET {Elsa}/activity-executions/by-id",
            $"GET {Elsa}/activity-executions/{{id}}/call-stack", $"GET {Elsa}/workflow-instances/{{id}}/export", $"POST {Elsa}/bulk-actions/export/workflow-instances",
        ]),
        (Role.Operator,
        [
            "GET /api/audit/verification",
            "POST /api/runs", "POST /api/runs/{run:guid}/cancel", "POST /api/runs/{run:guid}/retry",
            "POST /api/gates/{run:guid}/{activity}/approve", "POST /api/gates/{run:guid}/{activity}/reject", "POST /api/events/{name}",
            $"POST {Elsa}/workflow-definitions/{{definitionId}}/publish", $"POST {Elsa}/bulk-actions/publish/workflow-definitions/by-definition-ids",
            $"POST {Elsa}/workflow-definitions/import", $"PUT {Elsa}/workflow-definitions/{{definitionId}}/import", $"POST {Elsa}/workflow-definitions/import-files",
            $"POST {Elsa}/workflow-definitions/{{definitionId}}/execute", $"POST {Elsa}/workflow-definitions/{{definitionId}}/dispatch", $"POST {Elsa}/tests/activities",
            $"POST {Elsa}/workflow-definitions/{{definitionId}}/revert/{{version:int}}", $"POST {Elsa}/workflow-definitions/{{definitionId}}/update-references",
            $"POST {Elsa}/workflow-definitions", $"POST {Elsa}/workflow-definitions/{{definitionId}}/retract", $"POST {Elsa}/bulk-actions/retract/workflow-definitions/by-definition-ids",
            $"POST {Elsa}/cancel/workflow-instances/{{id}}", $"POST {Elsa}/bulk-actions/cancel/workflow-instances", $"POST {Elsa}/workflow-instances/{{id}}/retry",
        ]),
        (Role.Admin,
        [
            "POST /api/projections/{name}/retry",
            $"DELETE {Elsa}/workflow-definitions/{{definitionId}}", $"DELETE {Elsa}/workflow-definition-versions/{{id}}",
            $"POST {Elsa}/bulk-actions/delete/workflow-definitions/by-definition-id", $"POST {Elsa}/bulk-actions/delete/workflow-definitions/by-id",
            $"DELETE {Elsa}/workflow-instances/{{id}}", $"POST {Elsa}/bulk-actions/delete/workflow-instances/by-id",
        ]));

    /// <summary>The row of a request's endpoint, as <c>POST /api/events/{name}</c>; null where nothing is at the address.</summary>
    public static string? RowOf(HttpContext context) => context.GetEndpoint() is RouteEndpoint endpoint
        ? (endpoint.Metadata.GetMetadata<HttpMethodMetadata>() is { HttpMethods.Count: > 0 } ? context.Request.Method : "*") + " " + Pattern(endpoint)
        : null;

    /// <summary>The rows that an endpoint needs, one for each of its methods.</summary>
    public static IEnumerable<string> RowsOf(RouteEndpoint endpoint) =>
        (endpoint.Metadata.GetMetadata<HttpMethodMetadata>() is { HttpMethods.Count: > 0 } methods ? methods.HttpMethods : ["*"]).Select(m => $"{m} {Pattern(endpoint)}");

    public static bool IsOpen(HttpContext context) => RowOf(context) is { } row && Open.Contains(row);

    /// <summary>The least role for a request. Where nothing is at the address, that is for those to learn who may look; null: it has no row.</summary>
    public static Role? RoleOf(HttpContext context) => RowOf(context) is not { } row ? Role.Viewer : Least.TryGetValue(row, out var role) ? role : null;

    /// <summary>Pages of the console: what they show is asked for with GET, their forms come with POST.</summary>
    private static IEnumerable<string> Pages(params string[] patterns) => patterns.SelectMany(p => (string[])["GET " + p, "POST " + p]);

    private static string Pattern(RouteEndpoint endpoint) => "/" + endpoint.RoutePattern.RawText?.Trim('/');

    private static Dictionary<string, Role> Rows(params (Role Role, string[] Addresses)[] groups) =>
        groups.SelectMany(g => g.Addresses.Select(a => (a, g.Role))).ToDictionary(r => r.a, r => r.Role, StringComparer.Ordinal);
}

/// <summary>The policy of every request: the table decides.</summary>
internal sealed class AccessRequirement : AuthorizationHandler<AccessRequirement>, IAuthorizationRequirement
{
    protected override Task HandleRequirementAsync(AuthorizationHandlerContext context, AccessRequirement requirement)
    {
        if (context.Resource is HttpContext http && (AccessTable.IsOpen(http) || (AccessTable.RoleOf(http) is { } least && context.User.IsInRole(least.ToString()))))
        {
            context.Succeed(requirement);
        }

        return Task.CompletedTask;
    }
}
