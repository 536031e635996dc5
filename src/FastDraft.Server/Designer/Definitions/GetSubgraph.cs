using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using FastDraft.Server.Definitions;
using FastDraft.Server.Designer.Instances;
using FastDraft.Server.Web;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Definitions;

internal sealed record ActivityNode(JsonObject Activity, string NodeId, string Port, IReadOnlyList<ActivityNode> Children)
{
    public IReadOnlyList<ActivityNode> Parents => [];
}

internal sealed record PathSegment(string ActivityNodeId, string ActivityId, string ActivityType, string PortName, string ActivityName);

/// <summary>A part of a definition's tree and the way to it, for a link into a nested activity.</summary>
internal static class GetSubgraph
{
    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapGet("/workflow-definitions/subgraph/{id}", async (string id, string? parentNodeId, DefinitionStore definitions, InstanceReader instances, CancellationToken ct) =>
            await GetDefinition.FindAsync(id, definitions, instances, ct) is { } definition && definition.WhyUnreadable() is null
            && Find(definition.Parse(), parentNodeId) is { } activity
                ? Results.Ok(Node(activity)) : Problems.NotFound("such activity"));

        api.MapGet("/workflow-definitions/subgraph/segments/{id}", async (string id, string? childNodeId, DefinitionStore definitions, InstanceReader instances, CancellationToken ct) =>
        {
            if (await GetDefinition.FindAsync(id, definitions, instances, ct) is not { } definition || definition.WhyUnreadable() is not null
                || Find(definition.Parse(), childNodeId) is not { } child)
            {
                return Problems.NotFound("such activity");
            }

            var above = new List<WorkflowActivity>();
            for (var activity = child.Parent; activity is not null; activity = activity.Parent)
            {
                above.Insert(0, activity);
            }

            return Results.Ok(new
            {
                ChildNode = Node(child),
                Container = Node(child.Parent ?? child),
                PathSegments = above.Select(a => new PathSegment(a.NodeId, a.Id, a.Type, "", a.Name)).ToList(),
            });
        });
    }

    private static WorkflowActivity? Find(WorkflowDefinition definition, string? nodeId) =>
        string.IsNullOrEmpty(nodeId) ? definition.Root : definition.Root.SelfAndDescendants().FirstOrDefault(a => a.NodeId == nodeId);

    private static ActivityNode Node(WorkflowActivity activity) =>
        new(activity.Json.DeepClone().AsObject(), activity.NodeId, "", [.. activity.Children.Select(Node)]);
}
