using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;

namespace FastDraft.Core.Tests.Workflows;

/// <summary>Plays the runtime: answers what the interpreter asks for, in the order it asks.</summary>
internal static class WorkflowRuns
{
    /// <param name="answer">What to answer to an effect; null leaves it open. Without it everything succeeds at once.</param>
    public static Transition Run(string json, Func<WorkflowEffect, WorkflowEvent?>? answer = null, WorkflowStart? start = null)
    {
        var definition = WorkflowDefinition.Parse(json);
        var step = Interpreter.Start(definition, WorkflowText.Catalogue, new Dictionary<string, JsonNode?>(), start);
        var effects = new List<WorkflowEffect>();
        for (var open = new Queue<WorkflowEffect>(step.Effects); open.TryDequeue(out var effect);)
        {
            effects.Add(effect);
            if ((answer ?? Succeed)(effect) is { } happened)
            {
                step = Interpreter.Apply(definition, WorkflowText.Catalogue, step.State, happened);
                foreach (var next in step.Effects)
                {
                    open.Enqueue(next);
                }
            }
        }

        return new Transition(step.State, effects);
    }

    public static WorkflowEvent? Succeed(WorkflowEffect effect) => effect switch
    {
        StartStage e => new StageSucceeded(e.ActivityInstanceId),
        StartTimer e => new TimerFired(e.ActivityInstanceId),
        WaitForEvent e => new EventReceived(e.ActivityInstanceId, e.EventName),
        OpenGate e => new GateDecided(e.ActivityInstanceId, true, "ann", "good"),
        StartChild { Wait: true } e => new ChildEnded(e.ActivityInstanceId, WorkflowStatus.Finished, new JsonObject { ["answer"] = 42 }),
        StartChild e => new ChildStarted(e.ActivityInstanceId),
        _ => null,
    };

    public static IEnumerable<string> Lines(this Transition run) => run.Effects.OfType<WriteLine>().Select(l => l.Text);

    /// <summary>"activity event" of every record of the run.</summary>
    public static IEnumerable<string> Journal(this Transition run) => run.Effects.OfType<JournalEntry>().Select(j => $"{j.ActivityId} {j.EventName}");
}
