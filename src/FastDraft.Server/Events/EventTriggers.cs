using FastDraft.Core.Workflows;
using FastDraft.Server.Definitions;
using FastDraft.Server.Scheduling;

namespace FastDraft.Server.Events;

/// <summary>The Event activities of published workflows that may start a run. Read when an event is published, so nothing has to be kept in step.</summary>
internal static class EventTriggers
{
    public static async Task<IReadOnlyList<(WorkflowDefinition Definition, string ActivityId)>> StartedByAsync(DefinitionStore definitions, PublishEvent published, CancellationToken ct)
    {
        var started = new List<(WorkflowDefinition, string)>();
        foreach (var stored in (await definitions.ListPublishedAsync(ct)).Where(d => !d.Head.IsReadOnly))
        {
            try
            {
                var definition = stored.Parse();
                started.AddRange(definition.Root.SelfAndDescendants()
                    .Where(a => a.CanStartWorkflow && a.Type == ActivityTypes.Event && PublishedTriggers.Literal(a, "eventName") is { } name && EventDelivery.Starts(published, name))
                    .Select(a => (definition, a.Id)));
            }
            catch (WorkflowFormatException)
            {
                // A damaged row is shown where definitions are listed; here it has no triggers.
            }
        }

        return started;
    }
}
