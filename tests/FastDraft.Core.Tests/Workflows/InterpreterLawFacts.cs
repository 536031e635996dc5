using System.Text.Json.Nodes;
using CsCheck;
using FastDraft.Core.Workflows;

namespace FastDraft.Core.Tests.Workflows;

/// <summary>Laws that hold for every definition and every order of events.</summary>
public sealed class InterpreterLawFacts
{
    // A tenth of the full count keeps the suite short; FASTDRAFT_FULL=1 runs all of it.
    private static readonly int NumSequences = Environment.GetEnvironmentVariable("FASTDRAFT_FULL") == "1" ? 100_000 : 10_000;

    [Fact]
    public void Whatever_happens_in_whatever_order_no_law_is_broken_and_every_run_ends() =>
        Gen.Select(Gen.Byte.Array[1, 60], Gen.Byte.Array[0, 40]).Sample((shape, events) => new Play(new RandomWorkflow(shape).Build()).Run(events), iter: NumSequences);

    [Fact]
    public void A_definition_with_a_wrong_value_anywhere_is_reported_or_runs_and_never_throws() =>
        Gen.Select(Gen.Byte.Array[1, 60], Gen.Int[0, 100_000], Gen.Int[0, Wrong.Length - 1]).Sample(
            (shape, place, wrong) =>
            {
                var text = Broken(new RandomWorkflow(shape).Build(), place, Wrong[wrong]);
                WorkflowValidator.Validate(text, "w.json", WorkflowText.Catalogue);
                try
                {
                    var numAnswers = 0;
                    WorkflowRuns.Run(text, effect => ++numAnswers < 200 ? WorkflowRuns.Succeed(effect) : null);
                }
                catch (WorkflowFormatException)
                {
                }
            },
            iter: NumSequences);

    private static readonly string[] Wrong = ["null", "7", "-1", "\"x\"", "\"\"", "true", "[]", "[1,{}]", "{}", "{\"id\":\"a\"}", "1e300"];

    // One value of the tree, whichever it is, is another one.
    private static string Broken(string json, int place, string wrong)
    {
        var definition = JsonNode.Parse(json)!;
        var places = Descendants(definition).ToList();
        var (parent, key) = places[place % places.Count];
        if (parent is JsonObject members)
        {
            members[(string)key] = JsonNode.Parse(wrong);
        }
        else
        {
            parent.AsArray()[(int)key] = JsonNode.Parse(wrong);
        }

        return definition.ToJsonString();
    }

    private static IEnumerable<(JsonNode Parent, object Key)> Descendants(JsonNode? node) => node switch
    {
        JsonObject json => json.SelectMany(member => Descendants(member.Value).Prepend((json, member.Key))),
        JsonArray array => array.Index().SelectMany(item => Descendants(item.Item).Prepend((array, item.Index))),
        _ => [],
    };

    /// <summary>One run, with the book-keeping of a runtime that trusts nothing.</summary>
    private sealed class Play(string json)
    {
        private const int MaxAnswers = 5000;

        private readonly WorkflowDefinition _definition = WorkflowDefinition.Parse(json);
        private readonly Dictionary<string, WorkflowRequest> _open = [];
        private readonly Dictionary<string, WorkflowRequest> _asked = [];
        private readonly Dictionary<string, string> _ended = [];
        private readonly HashSet<string> _started = [];
        private WorkflowState _state = new();
        private long _sequence;
        private bool _isFinished;

        public void Run(byte[] events)
        {
            var start = Interpreter.Start(_definition, WorkflowText.Catalogue, new Dictionary<string, JsonNode?>());
            Take(start);
            foreach (var choice in events)
            {
                Happen(Next(choice));
            }

            var numAnswers = 0;
            while (!_isFinished)
            {
                Assert.True(++numAnswers < MaxAnswers, "The run does not end.");
                Happen(WorkflowRuns.Succeed(_open.First().Value)!);
            }

            Assert.Empty(_open);
            foreach (var late in _asked.Values)
            {
                Happen(WorkflowRuns.Succeed(late)!);
            }

            Happen(new CancelRequested());

            AssertForeseen();

            // A Finish drops everything where it stands, and so does a fault.
            var isDropped = _started.Any(id => id.StartsWith("finish", StringComparison.Ordinal)) || _state.Incidents.Count > 0;
            if (_state.Status is WorkflowStatus.Cancelled || (_state.Status is WorkflowStatus.Finished && !isDropped))
            {
                Assert.Subset(_ended.Keys.Append(WorkflowActivity.WorkflowId).ToHashSet(), _started);
            }
        }

        // What a definition itself makes go wrong is found before it runs: only a Fault, or what happened outside, is left.
        private void AssertForeseen()
        {
            if (_state.Incidents.Select(i => i.Message).Except(["boom", "no", "no such workflow"]).ToList() is { Count: > 0 } unforeseen)
            {
                Assert.True(WorkflowValidator.Validate(json, "w.json", WorkflowText.Catalogue).Count > 0, string.Join("; ", unforeseen));
            }
        }

        // Mostly answers to what is open; else failures, answers given before, answers of the wrong kind, and answers to nobody.
        private WorkflowEvent Next(byte choice)
        {
            var (kind, index) = (choice % 16, choice / 16);
            var stranger = new StartTimer("stranger#1", new DueAfter(TimeSpan.Zero));
            var open = _open.Count > 0 ? _open.ElementAt(index % _open.Count).Value : stranger;
            var asked = _asked.Count > 0 ? _asked.ElementAt(index % _asked.Count).Value : stranger;
            var id = open.ActivityInstanceId;
            return kind switch
            {
                < 8 => WorkflowRuns.Succeed(open)!,
                8 => new StageFailed(id, "no"),
                9 => new StageSucceeded(id, "Elsewhere", new JsonObject { ["rows"] = 3 }),
                10 => new GateDecided(id, false, "bo", null),
                11 => new ChildEnded(id, WorkflowStatus.Faulted, []),
                12 => new ChildNotStarted(id, "no such workflow"),
                13 => WorkflowRuns.Succeed(asked)!,
                14 => index switch { 0 => new CancelRequested(), 1 => new TimerFired("stranger#1"), 2 => new TimerFired(WorkflowActivity.WorkflowId), _ => new TimerFired(id) },
                _ => new EventReceived(id, new JsonArray(1, 2)),
            };
        }

        private void Happen(WorkflowEvent happened)
        {
            var before = _state.ToJson();
            var isAnswer = happened is CancelRequested ? !_isFinished : Answered(happened);
            var after = Interpreter.Apply(_definition, WorkflowText.Catalogue, _state, happened);
            var replay = Interpreter.Apply(_definition, WorkflowText.Catalogue, WorkflowState.FromJson(before), happened);

            Assert.Equal(before, _state.ToJson());
            Assert.Equal(after.State.ToJson(), replay.State.ToJson());
            Assert.Equal(Describe(after), Describe(replay));
            if (isAnswer)
            {
                if (Subject(happened) is { } id)
                {
                    Assert.True(_open.Remove(id));
                }

                Take(after);
            }
            else
            {
                Assert.Empty(after.Effects);
                Assert.Equal(before, after.State.ToJson());
            }
        }

        private bool Answered(WorkflowEvent happened) => _open.GetValueOrDefault(Subject(happened)!) switch
        {
            StartStage => happened is StageSucceeded or StageFailed,
            StartTimer => happened is TimerFired,
            WaitForEvent => happened is EventReceived,
            OpenGate => happened is GateDecided,
            StartChild { Wait: true } => happened is ChildEnded or ChildNotStarted,
            StartChild => happened is ChildStarted or ChildNotStarted,
            _ => false,
        };

        private void Take(Transition step)
        {
            Assert.False(_isFinished);
            _state = step.State;
            foreach (var effect in step.Effects)
            {
                Assert.False(_isFinished, "Something follows the end.");
                switch (effect)
                {
                    case WorkflowRequest request:
                        Assert.True(_asked.TryAdd(request.ActivityInstanceId, request), "Asked twice.");
                        _open.Add(request.ActivityInstanceId, request);
                        break;
                    case CancelStage cancel:
                        Assert.True(_open.Remove(cancel.ActivityInstanceId, out var stage) && stage is StartStage, "No such stage is open.");
                        break;
                    case CancelWait cancel:
                        Assert.True(_open.Remove(cancel.ActivityInstanceId, out var wait) && wait is not StartStage, "No such wait is open.");
                        break;
                    case JournalEntry entry:
                        Keep(entry);
                        break;
                    case FinishWorkflow finish:
                        Assert.Equal(_state.Status, finish.Status);
                        Assert.Equal(finish.Status is WorkflowStatus.Faulted, finish.Incident is not null);
                        _isFinished = true;
                        break;
                }
            }

            Assert.Equal(_state.Status is not WorkflowStatus.Running, _isFinished);
            Assert.Equal(_sequence, _state.Sequence);
            Assert.Equal(_open.Keys.Order(), _state.Activities.Where(a => a.Awaits is not Awaited.Nothing).Select(a => a.Id).Order());
            Assert.True(_isFinished || _open.Count > 0, "A running workflow waits for something.");
        }

        private void Keep(JournalEntry entry)
        {
            Assert.Equal(++_sequence, entry.Sequence);
            switch (entry.EventName)
            {
                case "Started":
                    Assert.True(_started.Add(entry.ActivityInstanceId), "Started twice.");
                    break;
                case "Completed" or "Faulted" or "Canceled":
                    // What an activity's completion leads to may fail after it; that is then its incident.
                    var earlier = _ended.GetValueOrDefault(entry.ActivityInstanceId);
                    Assert.True(earlier is null || (earlier, entry.EventName) is ("Completed" or "Canceled", "Faulted"), $"{entry.ActivityInstanceId}: {earlier}, then {entry.EventName}");
                    _ended[entry.ActivityInstanceId] = entry.EventName;
                    break;
            }

            Assert.True(_started.Contains(entry.ActivityInstanceId), "Not started.");
        }

        private static string? Subject(WorkflowEvent happened) => happened switch
        {
            StageSucceeded e => e.ActivityInstanceId,
            StageFailed e => e.ActivityInstanceId,
            TimerFired e => e.ActivityInstanceId,
            EventReceived e => e.ActivityInstanceId,
            GateDecided e => e.ActivityInstanceId,
            ChildEnded e => e.ActivityInstanceId,
            ChildStarted e => e.ActivityInstanceId,
            ChildNotStarted e => e.ActivityInstanceId,
            _ => null,
        };

        private static IEnumerable<string> Describe(Transition step) => step.Effects.Select(effect => effect switch
        {
            StartStage s => s.ActivityInstanceId + s.Settings.ToJsonString() + string.Join(",", s.Inputs.Select(i => i.Key + i.Value)),
            StartChild c => $"{c.ActivityInstanceId} {c.ChildId} {c.Inputs.ToJsonString()}",
            JournalEntry j => $"{j.Sequence} {j.ActivityInstanceId} {j.EventName} {j.Message} {j.Data?.ToJsonString()}",
            _ => effect.ToString(),
        });
    }
}
