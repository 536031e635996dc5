using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using FastDraft.Server.Definitions;

namespace FastDraft.Server.Scheduling;

/// <summary>The activities of published workflows that may start a run of theirs. Read whenever asked for, so nothing has to be kept in step.</summary>
internal static class StartActivities
{
    public static async Task<IReadOnlyList<(WorkflowDefinition Definition, WorkflowActivity Activity)>> PublishedAsync(DefinitionStore definitions, CancellationToken ct) =>
        [.. (await definitions.ListPublishedAsync(ct)).Where(d => !d.Head.IsReadOnly).SelectMany(Of)];

    /// <summary>The Event activities that listen to the event.</summary>
    public static async Task<IReadOnlyList<(WorkflowDefinition Definition, WorkflowActivity Activity)>> StartedByAsync(
        DefinitionStore definitions, PublishEvent published, CancellationToken ct) =>
        [.. (await PublishedAsync(definitions, ct)).Where(s => s.Activity.Type == ActivityTypes.Event && Literal(s.Activity, "eventName") is { } name && EventDelivery.Starts(published, name))];

    // Only a literal: there is no run yet whose variables an expression could read.
    public static string? Literal(WorkflowActivity activity, string input)
    {
        var given = Member(activity.Json, input);
        var expression = (given as JsonObject)?["expression"] as JsonObject;
        var value = given is JsonValue ? given : expression?["type"]?.ToString() is null or "Literal" ? expression?["value"] : null;
        return value?.ToString();
    }

    public static JsonNode? Member(JsonObject json, string name) => json.FirstOrDefault(m => string.Equals(m.Key, name, StringComparison.OrdinalIgnoreCase)).Value;

    private static IEnumerable<(WorkflowDefinition, WorkflowActivity)> Of(StoredDefinition stored)
    {
        try
        {
            var definition = stored.Parse();
            return definition.Root.SelfAndDescendants().Where(a => a.CanStartWorkflow).Select(a => (definition, a));
        }
        catch (WorkflowFormatException)
        {
            // A damaged row is shown where definitions are listed; here it has no triggers.
            return [];
        }
    }
}
