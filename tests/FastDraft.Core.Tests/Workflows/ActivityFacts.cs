using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using static FastDraft.Core.Tests.Workflows.WorkflowRuns;
using static FastDraft.Core.Tests.Workflows.WorkflowText;

namespace FastDraft.Core.Tests.Workflows;

/// <summary>What each activity does, by the rules of the Elsa contract.</summary>
public sealed class ActivityFacts
{
    [Fact]
    public void Every_core_activity_that_is_declared_is_run()
    {
        foreach (var core in CoreActivities.All)
        {
            var (state, effects) = Run(Workflow(new JsonObject { ["id"] = "a", ["type"] = core.Type }));

            Assert.DoesNotContain("not run", state.Incident ?? "", StringComparison.Ordinal);
            Assert.Contains(effects.OfType<JournalEntry>(), j => j.ActivityType == core.Type && j.EventName is "Completed" or "Faulted");
            Assert.DoesNotContain(WorkflowValidator.Validate(Workflow(new JsonObject { ["id"] = "a", ["type"] = core.Type }), "w", Catalogue), e => e.Message.Contains("unknown activity", StringComparison.Ordinal));
        }
    }

    [Theory]
    [InlineData("WaitAll", new[] { "a", "b", "end" })]
    [InlineData("WaitAllActive", new[] { "a", "b", "end" })]
    [InlineData("WaitAny", new[] { "a", "end" })]
    public void A_join_goes_on_once_as_its_mode_says(string mode, string[] lines)
    {
        // Where the join does not wait for branch b, its timer does not fire.
        var run = Run(Joined(mode, "[\"A\",\"B\"]"), effect => mode == "WaitAny" && effect is StartTimer { ActivityInstanceId: "waitB#1" } ? null : Succeed(effect));

        Assert.Equal(lines, run.Lines());
        Assert.Equal(WorkflowStatus.Finished, run.State.Status);
        Assert.Equal(mode == "WaitAny", run.Journal().Contains("waitB Canceled"));
    }

    [Fact]
    public void A_branch_that_begins_to_wait_after_the_join_was_reached_is_cancelled_and_does_not_run_the_join_again()
    {
        var run = Run(
            Workflow(Flow(
                "fc",
                [Node("fork", "FlowFork", ("branches", Expression("Object", "[\"A\",\"B\"]"))), Line("a"), Node("wait", "Delay"), Line("b"), Node("join", "FlowJoin", ("mode", "WaitAny")), Line("end")],
                "fork.A>a", "fork.B>wait", "wait>b", "a>join", "b>join", "join>end")),
            _ => null);

        Assert.Equal(["a", "end"], run.Lines());
        Assert.Equal(1, run.Journal().Count(entry => entry == "join Started"));
        Assert.Equal(WorkflowStatus.Finished, run.State.Status);
    }

    // Fork goes on by A alone: the way through b is dead.
    [Theory]
    [InlineData("WaitAll", new[] { "a" })]
    [InlineData("WaitAllActive", new[] { "a", "end" })]
    [InlineData("WaitAny", new[] { "a", "end" })]
    public void A_branch_that_was_not_taken_counts_as_its_join_mode_says(string mode, string[] lines)
    {
        var run = Run(Joined(mode, "[\"A\"]"));

        Assert.Equal(lines, run.Lines());
        Assert.Equal(WorkflowStatus.Finished, run.State.Status);
    }

    [Fact]
    public void A_dead_path_of_thousands_of_activities_is_passed_over()
    {
        var ids = Enumerable.Range(0, 3000).Select(i => $"n{i}").ToList();
        var run = Run(Workflow(Flow(
            "fc", [Node("d", "FlowDecision", ("condition", true)), .. ids.Select(id => Line(id)), Line("end")],
            ["d.False>n0", .. ids.Zip(ids.Skip(1), (a, b) => $"{a}>{b}"), "n2999>end", "d.True>end"])));

        Assert.Equal(["end"], run.Lines());
        Assert.Equal(WorkflowStatus.Finished, run.State.Status);
    }

    [Fact]
    public void A_break_leaves_the_innermost_loop_alone()
    {
        var inner = Node("inner", "ForEach", ("items", Expression("Object", "[1,2,3]")), ("body", Sequence(
            "body", Line("before"), Node("if", "If", ("condition", Script("getCurrentValue() == 2")), ("then", Node("break", "Break"))), Line("after"))));

        var run = Run(Workflow(Node("outer", "For", ("start", 1), ("end", 2), ("body", Sequence("round", inner, Line("next"))))));

        Assert.Equal(["before", "after", "before", "next", "before", "after", "before", "next"], run.Lines());
        Assert.Equal(WorkflowStatus.Finished, run.State.Status);
    }

    [Theory]
    [InlineData("While")]
    [InlineData("For")]
    [InlineData("ForEach")]
    public void A_break_leaves_every_kind_of_loop(string loop)
    {
        (string, JsonNode?)[] inputs = loop switch
        {
            "While" => [("condition", true)],
            "For" => [("end", 5)],
            _ => [("items", Expression("Object", "[1,2,3]"))],
        };

        var run = Run(Workflow(Sequence("sq", Node("loop", loop, [.. inputs, ("body", Flow("body", [Line("once"), Node("break", "Break")], "once>break"))]), Line("after"))));

        Assert.Equal(["once", "after"], run.Lines());
    }

    [Theory]
    [InlineData(1, 3, 1, true, new[] { "1", "2", "3" })]
    [InlineData(1, 3, 1, false, new[] { "1", "2" })]
    [InlineData(3, 1, -1, true, new[] { "3", "2", "1" })]
    [InlineData(3, 1, -2, false, new[] { "3" })]
    [InlineData(5, 1, 1, true, new string[0])]
    [InlineData(2147483646, 2147483647, 2, true, new[] { "2147483646" })]
    public void A_for_counts_as_its_bounds_and_step_say(int start, int end, int step, bool isInclusive, string[] lines) => Assert.Equal(lines, Run(Workflow(Node(
        "for", "For", ("start", start), ("end", end), ("step", step), ("outerBoundInclusive", isInclusive), ("body", Node("w", "WriteLine", ("text", Script("'' + getCurrentValue()"))))))).Lines());

    [Fact]
    public void Side_by_side_each_branch_sees_its_own_value_and_index()
    {
        var body = Sequence("body", Node("wait", "Delay"), Node("w", "WriteLine", ("text", Script("`${variables.CurrentIndex}:${variables.CurrentValue}`"))));
        var run = Run(Workflow(Sequence("sq", Node("each", "ParallelForEach", ("items", Expression("Object", "[\"a\",\"b\",\"c\"]")), ("body", body)), Line("after"))));

        Assert.Equal(["0:a", "1:b", "2:c", "after"], run.Lines());
        Assert.Equal(3, run.Effects.OfType<StartTimer>().Count());
    }

    [Theory]
    [InlineData("ForEach")]
    [InlineData("ParallelForEach")]
    public void A_loop_over_nothing_completes(string loop) =>
        Assert.Equal(["after"], Run(Workflow(Sequence("sq", Node("each", loop, ("items", Expression("Object", "[]")), ("body", Line("never"))), Line("after")))).Lines());

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void An_if_whose_branch_is_empty_completes_and_says_what_the_condition_was(bool condition)
    {
        var run = Run(Workflow(Sequence("sq", Node("if", "If", ("condition", condition)), Node("w", "WriteLine", ("text", Script("'' + getOutputFrom('if', 'Result')"))))));

        Assert.Equal([condition ? "true" : "false"], run.Lines());
    }

    [Theory]
    [InlineData("MatchFirst", 2, new[] { "two" })]
    [InlineData("MatchAny", 2, new[] { "two", "even" })]
    [InlineData("MatchAny", 3, new[] { "default" })]
    public void A_switch_runs_the_cases_its_mode_says_or_the_default_one(string mode, int value, string[] lines)
    {
        var cases = new JsonArray(Case("two", $"{value} == 2", Line("two")), Case("even", $"{value} % 2 == 0", Line("even")), Case("empty", $"{value} > 9"));

        Assert.Equal([.. lines, "after"], Run(Workflow(Sequence("sq", Node("s", "Switch", ("cases", cases), ("mode", mode), ("default", Line("default"))), Line("after")))).Lines());
    }

    [Theory]
    [InlineData("MatchFirst", 2, new[] { "two" })]
    [InlineData("MatchAny", 2, new[] { "two", "even" })]
    [InlineData("MatchAny", 3, new[] { "default" })]
    public void A_flow_switch_goes_on_by_the_cases_its_mode_says_or_by_default(string mode, int value, string[] lines)
    {
        var cases = new JsonArray(Case("Two", $"{value} == 2"), Case("Even", $"{value} % 2 == 0"));

        Assert.Equal(lines, Run(Workflow(Flow(
            "fc", [Node("s", "FlowSwitch", ("cases", cases), ("mode", mode)), Line("two"), Line("even"), Line("default")], "s.Two>two", "s.Even>even", "s.Default>default"))).Lines());
    }

    [Fact]
    public void Finish_ends_the_run_at_once_and_what_waits_is_no_longer_wanted()
    {
        var run = Run(
            Workflow(Node("fork", "Fork", ("branches", new JsonArray(Sequence("a", Node("wait", "Delay")), Sequence("b", Line("b"), Node("finish", "Finish"), Line("never")), Sequence("c", Line("c1"), Line("c2")))))),
            _ => null);

        Assert.Equal(["b", "c1"], run.Lines());
        Assert.Equal(new FinishWorkflow(WorkflowStatus.Finished, null), run.Effects[^1]);
        Assert.DoesNotContain(run.Effects, e => e is StartTimer);
    }

    [Fact]
    public void End_completes_the_flowchart_it_is_in_and_no_more()
    {
        var inner = Flow("inner", [Node("fork", "FlowFork", ("branches", Expression("Object", "[\"A\",\"B\"]"))), Node("wait", "Delay"), Node("end", "End"), Line("never")],
            "fork.A>wait", "fork.B>end", "end>never", "wait>never");

        var run = Run(Workflow(Sequence("sq", inner, Line("after"))), _ => null);

        Assert.Equal(["after"], run.Lines());
        Assert.Contains("wait Canceled", run.Journal());
        Assert.Equal(WorkflowStatus.Finished, run.State.Status);
    }

    [Fact]
    public void Complete_ends_the_whole_workflow_from_inside_loops_and_containers()
    {
        foreach (var body in new[] { Node("complete", "Complete", ("outcomes", Expression("Object", "[\"Good\"]"))), Flow("inner", [Node("complete", "Complete")]) })
        {
            var run = Run(Workflow(Sequence("sq", Node("each", "ForEach", ("items", Expression("Object", "[1,2]")), ("body", Sequence("b", Line("once"), body))), Line("never"))));

            Assert.Equal(["once"], run.Lines());
            Assert.Equal(WorkflowStatus.Finished, run.State.Status);
            Assert.Equal("Workflow1 Completed", run.Journal().Last());
        }
    }

    [Fact]
    public void A_fault_ends_the_run_and_is_its_incident()
    {
        var run = Run(FaultBeside(continues: false));

        Assert.Equal((WorkflowStatus.Faulted, "boom"), (run.State.Status, run.State.Incident));
        Assert.Equal(["a"], run.Lines());
        Assert.Equal(new FinishWorkflow(WorkflowStatus.Faulted, "boom"), run.Effects[^1]);
    }

    [Fact]
    public void Under_continue_with_incidents_the_other_branches_go_on_and_the_run_ends_as_faulted()
    {
        var run = Run(FaultBeside(continues: true));

        Assert.Equal(["a", "a2"], run.Lines());
        Assert.Equal(WorkflowStatus.Faulted, run.State.Status);
        Assert.Equal("boom", Assert.Single(run.State.Incidents).Message);
    }

    [Fact]
    public void Under_continue_with_incidents_a_run_whose_root_completes_is_finished()
    {
        var fork = Node("fork", "Fork", ("joinMode", "WaitAny"), ("branches", new JsonArray(Node("f", "Fault", ("message", "boom")), Line("a"))));

        Assert.Equal(WorkflowStatus.Finished, Run(Workflow(fork, continues: true)).State.Status);
    }

    [Theory]
    [InlineData("WaitAll", new[] { "a", "b", "after" })]
    [InlineData("WaitAny", new[] { "a", "after" })]
    public void A_fork_waits_for_all_its_branches_or_for_the_first_one(string mode, string[] lines)
    {
        var fork = Node("fork", "Fork", ("joinMode", mode), ("branches", new JsonArray(Line("a"), Sequence("sq", Node("wait", "Delay"), Line("b")))));

        Assert.Equal(lines, Run(Workflow(Sequence("root", fork, Line("after"))), effect => mode == "WaitAny" && effect is StartTimer ? null : Succeed(effect)).Lines());
    }

    [Fact]
    public void Side_by_side_work_interleaves_one_activity_at_a_time()
    {
        var both = Node("p", "Parallel", ("activities", new JsonArray(Sequence("a", Line("a1"), Line("a2")), Sequence("b", Line("b1"), Line("b2")))));

        Assert.Equal(["a1", "b1", "a2", "b2", "after"], Run(Workflow(Sequence("root", both, Line("after")))).Lines());
    }

    [Theory]
    [InlineData("Timer")]
    [InlineData("Cron")]
    [InlineData("StartAt")]
    [InlineData("Event")]
    public void A_trigger_that_started_the_run_does_not_wait_and_is_where_its_flowchart_starts(string type)
    {
        var trigger = Node("t", type, ("customProperties", new JsonObject { ["canStartWorkflow"] = true }));
        trigger[type switch { "Timer" => "interval", "Cron" => "cronExpression", "StartAt" => "dateTime", _ => "eventName" }] =
            type switch { "Timer" => "00:10:00", "Cron" => "0 3 * * *", "StartAt" => "2030-01-01T00:00:00Z", _ => "arrived" };
        var text = Workflow(Flow("fc", [Line("other"), trigger, Node("w", "WriteLine", ("text", Script("'' + getLastResult()")))], "other>w", "t>w"));

        var started = Run(text, start: new WorkflowStart("r", "t", "payload"));

        Assert.Equal([type == "Event" ? "payload" : "null"], started.Lines());
        Assert.DoesNotContain(started.Effects, e => e is StartTimer or WaitForEvent);
    }

    [Fact]
    public void Timers_say_when_they_are_due()
    {
        var run = Run(Workflow(Sequence(
            "sq", Node("d", "Delay", ("timeSpan", "1.02:03:04")), Node("t", "Timer", ("interval", "00:00:05")), Node("c", "Cron", ("cronExpression", "0 3 * * 1")),
            Node("s", "StartAt", ("dateTime", "2030-01-01T00:00:00+01:00")))));

        Assert.Equal(
            [
                new StartTimer("d#1", new DueAfter(new TimeSpan(1, 2, 3, 4))), new StartTimer("t#1", new DueAfter(TimeSpan.FromSeconds(5))),
                new StartTimer("c#1", new DueByCron("0 3 * * 1")), new StartTimer("s#1", new DueAt(new DateTimeOffset(2030, 1, 1, 0, 0, 0, TimeSpan.FromHours(1)))),
            ],
            run.Effects.OfType<StartTimer>());
    }

    [Fact]
    public void A_gate_goes_on_as_the_person_decided_and_keeps_who_and_why()
    {
        var text = Workflow(Flow(
            "fc", [Node("g", "Gate", ("title", "Promote?")), Node("yes", "WriteLine", ("text", Script("getOutputFrom('g', 'DecidedBy')"))), Line("no")], "g.Approved>yes", "g.Rejected>no"));
        text = text.Replace("Elsa.Gate", "FastDraft.Gate", StringComparison.Ordinal);

        Assert.Equal(["ann"], Run(text).Lines());
        Assert.Equal(["no"], Run(text, effect => effect is OpenGate gate ? new GateDecided(gate.ActivityInstanceId, false, "bo", null) : null).Lines());
    }

    [Fact]
    public void A_child_is_asked_for_with_its_inputs_and_its_outputs_are_the_result()
    {
        var run = Run(Workflow(Sequence(
            "sq", Node("x", "ExecuteWorkflow", ("workflowDefinitionId", "child"), ("input", Script("({ rows: getVariable('X') })")), ("waitForCompletion", true)),
            Node("w", "WriteLine", ("text", Script("`${getLastResult().subStatus} ${getLastResult().output.answer}`"))),
            Node("d", "DispatchWorkflow", ("workflowDefinitionId", "child")), Line("after"))));

        Assert.Equal(["Finished 42", "after"], run.Lines());
        Assert.Equal(["""{"rows":1}""", "{}"], run.Effects.OfType<StartChild>().Select(c => c.Inputs.ToJsonString()));
        Assert.Equal([true, false], run.Effects.OfType<StartChild>().Select(c => c.Wait));
        Assert.Equal(2, run.Effects.OfType<StartChild>().Select(c => c.ChildId).Distinct().Count());
    }

    [Fact]
    public void Outputs_name_and_correlation_id_are_the_runs_and_a_wait_knows_the_id_that_the_run_has_when_it_rests()
    {
        var run = Run(
            Workflow(Node("p", "Parallel", ("activities", new JsonArray(
                Node("e", "Event", ("eventName", "done")),
                Sequence("sq", Node("c", "Correlate", ("correlationId", "order-1")), Node("n", "SetName", ("value", "Nightly")), Node("o", "SetOutput", ("outputName", "Out"), ("outputValue", Script("[1, 2]")))))))),
            _ => null);

        Assert.Equal(("Nightly", "order-1", "[1,2]"), (run.State.Name, run.State.CorrelationId, run.State.Outputs["Out"]!.ToJsonString()));
        Assert.Contains(new WaitForEvent("e#1", "done", "order-1"), run.Effects);
    }

    [Theory]
    [InlineData(null, null, true)]
    [InlineData(null, "a", true)]
    [InlineData("a", "a", true)]
    [InlineData("a", "b", false)]
    [InlineData("a", null, false)]
    public void An_event_reaches_the_runs_with_its_correlation_id_and_one_without_reaches_all(string? published, string? waiting, bool reaches)
    {
        Assert.Equal(reaches, EventDelivery.Reaches(new PublishEvent("e", null, published, false), "e", waiting, isPublishersOwn: false));
        Assert.False(EventDelivery.Reaches(new PublishEvent("e", null, published, true), "e", waiting, isPublishersOwn: false));
        Assert.False(EventDelivery.Reaches(new PublishEvent("e", null, published, false), "E", waiting, isPublishersOwn: true));
        Assert.Equal(reaches, EventDelivery.Reaches(new PublishEvent("e", null, published, true), "e", waiting, isPublishersOwn: true));
        Assert.True(EventDelivery.Starts(new PublishEvent("e", null, published, false), "e"));
        Assert.False(EventDelivery.Starts(new PublishEvent("e", null, published, true), "e"));
    }

    [Theory]
    [InlineData("setOutcomes(['One', 'Two'])", new[] { "one", "two" })]
    [InlineData("setOutcome('Two')", new[] { "two" })]
    [InlineData("1 + 1", new[] { "done" })]
    public void A_script_goes_on_by_the_outcomes_it_sets(string script, string[] lines) => Assert.Equal(lines, Run(Workflow(Flow(
        "fc", [Node("js", "RunJavaScript", ("script", Script(script)), ("possibleOutcomes", Expression("Object", "[\"One\",\"Two\"]"))), Line("one"), Line("two"), Line("done")],
        "js.One>one", "js.Two>two", "js>done"))).Lines());

    private static string Joined(string mode, string branches) => Workflow(Flow(
        "fc",
        [
            Node("fork", "FlowFork", ("branches", Expression("Object", branches))), Node("waitA", "Delay"), Line("a"), Node("waitB", "Delay"), Line("b"),
            Node("join", "FlowJoin", ("mode", mode)), Line("end"),
        ],
        "fork.A>waitA", "waitA>a", "fork.B>waitB", "waitB>b", "a>join", "b>join", "join>end"));

    private static string FaultBeside(bool continues) => Workflow(
        Node("p", "Parallel", ("activities", new JsonArray(Sequence("f", Node("fault", "Fault", ("message", "boom")), Line("never")), Sequence("a", Line("a"), Node("wait", "Delay"), Line("a2"))))), continues);
}
