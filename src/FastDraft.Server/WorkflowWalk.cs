using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;

namespace FastDraft.Server;

/// <summary>The stages that a run would start, in order, if every one of them succeeded; nothing is run.</summary>
internal sealed class WorkflowWalk
{
    // A loop whose end only a run can know would walk for ever.
    private const int MaxStarts = 1000;

    private readonly WorkflowDefinition _definition;
    private readonly IReadOnlyList<StageDescriptor> _stages;
    private readonly Queue<StartStage> _pending = [];
    private WorkflowState _state;
    private int _numStarts;

    public WorkflowWalk(WorkflowDefinition definition, IReadOnlyList<StageDescriptor> stages, IReadOnlyDictionary<string, JsonNode?> inputs)
    {
        (_definition, _stages) = (definition, stages);
        var transition = Interpreter.Start(definition, stages, inputs);
        _state = transition.State;
        Take(transition);
    }

    /// <summary>Why the walk ended early: a stage whose settings or inputs cannot be made.</summary>
    public string? Incident { get; private set; }

    /// <summary>The next stage that would start. It is to be answered by <see cref="Succeed"/>.</summary>
    public bool TryNext(out StartStage start) => _pending.TryDequeue(out start!) && ++_numStarts <= MaxStarts;

    /// <summary>The stage is taken to succeed, with this outcome.</summary>
    public void Succeed(StartStage start, string outcome)
    {
        var transition = Interpreter.Apply(_definition, _stages, _state, new StageSucceeded(start.ActivityInstanceId, outcome));
        _state = transition.State;
        Take(transition);
    }

    /// <summary>Every stage from here on, each with its first outcome.</summary>
    public IReadOnlyList<StartStage> ToEnd()
    {
        var starts = new List<StartStage>();
        while (TryNext(out var start))
        {
            starts.Add(start);
            Succeed(start, start.Stage.Outcomes[0]);
        }

        return starts;
    }

    private void Take(Transition transition)
    {
        foreach (var start in transition.Effects.OfType<StartStage>())
        {
            _pending.Enqueue(start);
        }

        // A Fault activity is a workflow's own word; a stage that cannot start is a mistake.
        Incident ??= transition.Effects.OfType<JournalEntry>().FirstOrDefault(e => e.EventName == "Faulted" && _stages.Any(s => s.ActivityType == e.ActivityType))?.Message;
    }
}
