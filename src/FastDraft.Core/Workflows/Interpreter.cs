using System.Text.Json.Nodes;
using FastDraft.Core.Stages;

namespace FastDraft.Core.Workflows;

/// <summary>
/// Runs a definition as Elsa does in its default (counter) mode, as a pure function of state and event: no clock, no randomness,
/// no input or output. Work between two events runs from one FIFO queue, so what runs side by side interleaves breadth-first.
/// </summary>
/// <remarks>
/// It differs from Elsa on purpose where a run would otherwise hang or lie: a loop without a body completes, one whose step is 0 faults,
/// a value that is not what an input or a variable holds is refused and not read as 0, a join is run once by the branches that it joins,
/// what a container left in the queue when it ended waits for nothing, and under ContinueWithIncidents a run with nothing left to do ends as faulted. Nothing that a definition or an event
/// says makes it throw: what goes wrong in an activity is that activity's incident.
/// </remarks>
public static class Interpreter
{
    public static Transition Start(
        WorkflowDefinition d, IReadOnlyList<StageDescriptor> stages, IReadOnlyDictionary<string, JsonNode?> inputs, WorkflowStart? start = null)
    {
        start ??= new WorkflowStart();
        var state = new WorkflowState
        {
            InstanceId = start.InstanceId,
            TriggerActivityId = start.TriggerActivityId,
            TriggerPayload = start.TriggerPayload?.DeepClone(),
            CorrelationId = start.CorrelationId,
        };
        foreach (var input in d.Inputs)
        {
            state.Inputs[input.Name] = (inputs.TryGetValue(input.Name, out var given) ? given : input.Default)?.DeepClone();
        }

        foreach (var variable in d.Variables)
        {
            state.Variables[variable.Id] = variable.Value?.DeepClone();
        }

        var step = new InterpreterStep(d, stages, state);
        step.Begin();
        return new Transition(state, step.Effects);
    }

    /// <summary>
    /// Events for an ended workflow, or for an instance that does not wait for them (an answer delivered twice, or after a cancel),
    /// change nothing.
    /// </summary>
    public static Transition Apply(WorkflowDefinition d, IReadOnlyList<StageDescriptor> stages, WorkflowState s, WorkflowEvent e)
    {
        if (s.Status is not WorkflowStatus.Running)
        {
            return new Transition(s, []);
        }

        var state = WorkflowState.FromJson(s.ToJson());
        var step = new InterpreterStep(d, stages, state);
        step.Handle(e);
        return new Transition(state, step.Effects);
    }
}
