using System.Text.Json.Nodes;
using FastDraft.Core.Stages;

namespace FastDraft.Core.Workflows;

/// <summary>
/// Runs a definition as Elsa does in its default (counter) mode, as a pure function of state and event: no clock, no randomness,
/// no input or output. Work between two events runs from one FIFO queue, so branches of a fork interleave breadth-first.
/// The first failed activity faults the workflow at once (Elsa's FaultStrategy); stages then in flight are cancelled.
/// </summary>
public static class Interpreter
{
    public static Transition Start(
        WorkflowDefinition d, IReadOnlyList<StageDescriptor> stages, IReadOnlyDictionary<string, JsonNode?> inputs)
    {
        var state = new WorkflowState();
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
    /// Events for an ended workflow, or for a stage that is not in flight (an answer delivered twice, or after a cancel), change nothing.
    /// </summary>
    public static Transition Apply(WorkflowDefinition d, IReadOnlyList<StageDescriptor> stages, WorkflowState s, WorkflowEvent e)
    {
        if (s.Status is not WorkflowStatus.Running)
        {
            return new Transition(s, []);
        }

        var state = WorkflowState.FromJson(s.ToJson());
        var step = new InterpreterStep(d, stages, state);
        switch (e)
        {
            case StageSucceeded succeeded:
                step.StageEnded(succeeded.ActivityInstanceId, null, succeeded.Outcome);
                break;
            case StageFailed failed:
                step.StageEnded(failed.ActivityInstanceId, failed.Message);
                break;
            case CancelRequested:
                step.Cancel();
                break;
        }

        return new Transition(state, step.Effects);
    }
}
