using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;

namespace FastDraft.Core.Workflows;

/// <summary>What each activity does when it starts, and when a child of it completes.</summary>
internal sealed partial class InterpreterStep
{
    private void Run(WorkflowActivity activity, ActivityInstance instance)
    {
        if (activity.Core is null)
        {
            if (!_stages.TryGetValue(activity.Type, out var stage))
            {
                throw new ActivityFaultException($"Activity type '{activity.Type}' version '0' could not be found.");
            }

            StartStage(activity, instance, stage);
            return;
        }

        // A while asks before each round, and a script's outcomes are named for the designer alone.
        foreach (var input in activity.Core.Inputs.Where(i => i.Shape is InputShape.Wrapped && activity.Type is not (ActivityTypes.While or ActivityTypes.RunJavaScript)))
        {
            if (Value(activity, instance, input) is { } value)
            {
                instance.Inputs[input.Key] = value;
            }
        }

        foreach (var variable in activity.Variables)
        {
            instance.Variables[variable.Id] = variable.Value?.DeepClone();
        }

        switch (activity.Type)
        {
            case ActivityTypes.Flowchart:
                instance.Flow = new FlowCounters();
                ScheduleOrComplete(instance, GraphOf(activity).Start);
                break;
            case ActivityTypes.Sequence:
                Advance(activity, instance);
                break;
            case ActivityTypes.Parallel or ActivityTypes.Fork:
                RunSideBySide(instance, [.. activity.Children]);
                break;
            case ActivityTypes.FlowNode:
                ScheduleOrComplete(instance, activity.Child("body"));
                break;
            case ActivityTypes.FlowJoin:
                CancelAncestors(ParentOf(instance), activity);
                Complete(instance, "Done");
                break;
            case ActivityTypes.FlowDecision:
                Complete(instance, IsTrue(instance, "condition") ? "True" : "False");
                break;
            case ActivityTypes.FlowFork:
                Complete(instance, Texts(instance, "branches") is { Length: > 0 } branches ? branches : ["Done"]);
                break;
            case ActivityTypes.FlowSwitch:
                Complete(instance, MatchingCases(activity, instance) is { Count: > 0 } cases ? [.. cases.Select(c => c.Text("label") ?? "")] : ["Default"]);
                break;
            case ActivityTypes.If:
                var isTrue = IsTrue(instance, "condition");
                Output(instance, "result", isTrue);
                _state.LastResult = isTrue;
                ScheduleOrComplete(instance, activity.Child(isTrue ? "then" : "else"));
                break;
            case ActivityTypes.Switch:
                RunCases(activity, instance);
                break;
            case ActivityTypes.While:
                NextWhile(activity, instance);
                break;
            case ActivityTypes.For:
                NextFor(activity, instance);
                break;
            case ActivityTypes.ForEach:
                NextForEach(activity, instance);
                break;
            case ActivityTypes.ParallelForEach:
                RunForEach(activity, instance);
                break;
            case ActivityTypes.SetVariable:
                SetVariable(activity, instance);
                Complete(instance, "Done");
                break;
            case ActivityTypes.SetOutput:
                _state.Outputs[Required(instance, "outputName")] = instance.Inputs.GetValueOrDefault("outputValue")?.DeepClone();
                Complete(instance, "Done");
                break;
            case ActivityTypes.SetName:
                _state.Name = Text(instance, "value");
                Complete(instance, "Done");
                break;
            case ActivityTypes.Correlate:
                _state.CorrelationId = Text(instance, "correlationId");
                Complete(instance, "Done");
                break;
            case ActivityTypes.WriteLine:
                if (Text(instance, "text") is { } text)
                {
                    _effects.Add(new WriteLine(text));
                }

                Complete(instance, "Done");
                break;
            case ActivityTypes.Fault:
                throw new ActivityFaultException(Text(instance, "message") ?? "The workflow reached a Fault activity.");
            case ActivityTypes.RunJavaScript:
                RunScript(activity, instance);
                break;
            case ActivityTypes.Break:
                Break(instance);
                break;
            case ActivityTypes.Complete:
                CompleteWorkflow(instance);
                break;
            case ActivityTypes.Finish:
                _queue.Clear();
                _isFinished = true;
                Complete(instance, "Done");
                break;
            case ActivityTypes.Delay:
                Await(instance, Awaited.Timer, new StartTimer(instance.Id, new DueAfter(Span(instance, "timeSpan"))));
                break;
            case ActivityTypes.Timer or ActivityTypes.Cron or ActivityTypes.StartAt or ActivityTypes.Event:
                RunTrigger(activity, instance);
                break;
            case ActivityTypes.PublishEvent:
                _effects.Add(new PublishEvent(
                    Required(instance, "eventName"), instance.Inputs.GetValueOrDefault("payload")?.DeepClone(),
                    Text(instance, "correlationId") is { } id && !string.IsNullOrWhiteSpace(id) ? id : null, IsTrue(instance, "isLocalEvent")));
                Complete(instance, "Done");
                break;
            case ActivityTypes.ExecuteWorkflow or ActivityTypes.DispatchWorkflow:
                var waits = IsTrue(instance, "waitForCompletion");
                Await(instance, waits ? Awaited.Child : Awaited.ChildStart, new StartChild(
                    instance.Id, ChildId(instance), Required(instance, "workflowDefinitionId"), instance.Inputs.GetValueOrDefault("input")?.DeepClone() as JsonObject ?? [],
                    Text(instance, "correlationId"), waits));
                break;
            case ActivityTypes.Gate:
                Await(instance, Awaited.Gate, new OpenGate(instance.Id, activity.Id, Required(instance, "title"), Text(instance, "instructions")));
                break;
            case ActivityTypes.Start or ActivityTypes.End:
                Complete(instance, "Done");
                break;
            default:
                throw new NotSupportedException($"Activities of type '{activity.Type}' are declared, and not run.");
        }
    }

    private void ChildCompleted(WorkflowActivity container, ActivityInstance instance, ActivityInstance child, string[] outcomes)
    {
        switch (container.Type)
        {
            case ActivityTypes.Flowchart:
                FlowOn(container, instance, child, outcomes);
                break;
            case ActivityTypes.Sequence when instance.IsBreaking || ActivityOf(child).Core is { IsTerminal: true }:
                Complete(instance, "Done");
                break;
            case ActivityTypes.Sequence:
                Advance(container, instance);
                break;
            case ActivityTypes.While:
                NextWhile(container, instance);
                break;
            case ActivityTypes.For:
                NextFor(container, instance);
                break;
            case ActivityTypes.ForEach:
                NextForEach(container, instance);
                break;
            case ActivityTypes.Fork when instance.IsBreaking || (container.Json.Text("joinMode") ?? "WaitAll") == "WaitAny":
                Complete(instance, "Done");
                break;
            case ActivityTypes.Fork or ActivityTypes.Parallel or ActivityTypes.Switch or ActivityTypes.ParallelForEach:
                if (--instance.Next == 0)
                {
                    Complete(instance, "Done");
                }

                break;
            default:
                Complete(instance, "Done");
                break;
        }
    }

    private void Await(ActivityInstance instance, Awaited awaited, WorkflowEffect ask)
    {
        // A container may end (Fork with WaitAny, End, Break) while activities of it stand in the queue. They still run, as in Elsa,
        // but nobody would take the answer to what they ask for.
        if (Orphan(instance) is { } orphan)
        {
            Cancel(orphan, childrenFirst: true);
            return;
        }

        instance.Awaits = awaited;
        _effects.Add(ask);
    }

    /// <summary>The outermost instance around this one, or itself, whose container has ended.</summary>
    private ActivityInstance? Orphan(ActivityInstance instance)
    {
        while (ParentOf(instance) is { Status: ActivityStatus.Running } parent)
        {
            instance = parent;
        }

        return instance.ParentId is null ? null : instance;
    }

    private void ScheduleOrComplete(ActivityInstance instance, WorkflowActivity? child)
    {
        if (child is null)
        {
            Complete(instance, "Done");
        }
        else
        {
            Schedule(child, instance);
        }
    }

    private void Advance(WorkflowActivity sequence, ActivityInstance instance) =>
        ScheduleOrComplete(instance, instance.Next < sequence.Children.Count ? sequence.Children[instance.Next++] : null);

    private void RunSideBySide(ActivityInstance instance, IReadOnlyList<WorkflowActivity> children)
    {
        instance.Next = children.Count;
        foreach (var child in children)
        {
            Schedule(child, instance);
        }

        if (children.Count == 0)
        {
            Complete(instance, "Done");
        }
    }

    private void RunCases(WorkflowActivity activity, ActivityInstance instance)
    {
        var cases = MatchingCases(activity, instance);
        var matching = cases.Select(c => c.Member("activity")).OfType<JsonObject>().Select(json => activity.Children.First(child => child.Json == json));
        RunSideBySide(instance, cases.Count > 0 ? [.. matching] : activity.Child("default") is { } otherwise ? [otherwise] : []);
    }

    private List<JsonObject> MatchingCases(WorkflowActivity activity, ActivityInstance instance)
    {
        var matching = new List<JsonObject>();
        foreach (var candidate in activity.Json.Objects("cases"))
        {
            // Every condition is evaluated, as Elsa does, also where only the first match counts.
            if (candidate.Member("condition") is JsonObject condition && AsBoolean(Evaluate($"the case '{candidate.Text("label")}'", instance, condition)))
            {
                matching.Add(candidate);
            }
        }

        return Text(instance, "mode") == "MatchAny" ? matching : [.. matching.Take(1)];
    }

    private void NextWhile(WorkflowActivity activity, ActivityInstance instance)
    {
        var goesOn = !instance.IsBreaking && Value(activity, instance, activity.Core!.Input("condition")!) is { } condition && AsBoolean(condition);
        ScheduleOrComplete(instance, goesOn ? activity.Child("body") : null);
    }

    private void NextFor(WorkflowActivity activity, ActivityInstance instance)
    {
        var (start, end, step) = (Whole(instance, "start"), Whole(instance, "end"), Whole(instance, "step"));
        var current = instance.Current is { } previous ? previous + step : start;
        var isInside = (step >= 0, IsTrue(instance, "outerBoundInclusive")) switch
        {
            (true, true) => current <= end,
            (true, false) => current < end,
            (false, true) => current >= end,
            (false, false) => current > end,
        };
        if (instance.IsBreaking || !isInside || activity.Child("body") is not { } body)
        {
            Complete(instance, "Done");
            return;
        }

        if (step == 0)
        {
            throw new ActivityFaultException("Input 'Step' is 0: the loop would not end.");
        }

        instance.Current = current;
        Output(instance, "currentValue", current);
        Schedule(body, instance, variables: new() { ["CurrentValue"] = current });
    }

    private void NextForEach(WorkflowActivity activity, ActivityInstance instance)
    {
        var items = instance.Inputs.GetValueOrDefault("items") as JsonArray ?? [];
        if (instance.IsBreaking || instance.Next >= items.Count)
        {
            Complete(instance, "Done");
            return;
        }

        var index = instance.Next++;
        Output(instance, "currentValue", items[index]);
        ScheduleOrComplete(instance, activity.Child("body"), LoopVariables(items[index], index));
    }

    private void RunForEach(WorkflowActivity activity, ActivityInstance instance)
    {
        var (items, error) = TypedValue.Convert(instance.Inputs.GetValueOrDefault("items"), "List<Object>");
        if (error is not null)
        {
            throw new ActivityFaultException($"Failed to evaluate activity input 'Items': {error}");
        }

        var list = items as JsonArray ?? [];
        if (list.Count == 0 || activity.Child("body") is not { } body)
        {
            Complete(instance, "Done");
            return;
        }

        instance.Next = list.Count;
        foreach (var (index, item) in list.Index())
        {
            Schedule(body, instance, variables: LoopVariables(item, index));
        }
    }

    private void ScheduleOrComplete(ActivityInstance instance, WorkflowActivity? body, Dictionary<string, JsonNode?> variables)
    {
        if (body is null)
        {
            Complete(instance, "Done");
        }
        else
        {
            Schedule(body, instance, variables: variables);
        }
    }

    private static Dictionary<string, JsonNode?> LoopVariables(JsonNode? item, int index) => new() { ["CurrentValue"] = item?.DeepClone(), ["CurrentIndex"] = index };

    private void SetVariable(WorkflowActivity activity, ActivityInstance instance)
    {
        var id = (activity.Json.Member("variable") as JsonObject)?.Text("id");
        var scope = new VariableScope(_definition, _state, instance);
        if (id is null || !scope.TrySetById(id, instance.Inputs.GetValueOrDefault("value")))
        {
            throw new ActivityFaultException($"Variable '{id}' not found.");
        }
    }

    private void RunScript(WorkflowActivity activity, ActivityInstance instance)
    {
        var given = (activity.Json.Member("script") as JsonObject)?.Member("expression") as JsonObject;
        var script = given?.Text("type") == "JavaScript" ? given.Member("value").AsText() : Value(activity, instance, activity.Core!.Input("script")!).AsText();
        if (string.IsNullOrWhiteSpace(script))
        {
            Complete(instance, "Done");
            return;
        }

        var context = new ScriptContext(new VariableScope(_definition, _state, instance), instance, Outcomes: []);
        JsonNode? result;
        try
        {
            result = _expressions.RunScript(script, context);
        }
        catch (ExpressionException e)
        {
            throw new ActivityFaultException($"Script '{activity.Id}': {e.Message}", e);
        }

        string[] outcomes = context.Outcomes is { Count: > 0 } set ? [.. set] : ["Done"];
        if (result is null)
        {
            Complete(instance, outcomes);
        }
        else
        {
            CompleteWithResult(instance, result, outcomes);
        }
    }

    // Sequences and forks on the way stop after the child in hand; the loop itself takes the signal.
    private void Break(ActivityInstance instance)
    {
        for (var ancestor = ParentOf(instance); ancestor is not null; ancestor = ParentOf(ancestor))
        {
            var type = ActivityOf(ancestor).Type;
            var isLoop = type is ActivityTypes.While or ActivityTypes.For or ActivityTypes.ForEach;
            ancestor.IsBreaking |= isLoop || type is ActivityTypes.Sequence or ActivityTypes.Fork;
            if (isLoop)
            {
                break;
            }
        }

        Complete(instance, "Done");
    }

    private void CompleteWorkflow(ActivityInstance instance)
    {
        var outcomes = instance.Inputs.GetValueOrDefault("outcomes") is JsonArray list
            ? [.. list.Select(o => o.AsText() ?? "")]
            : Text(instance, "outcomes") is { Length: > 0 } single ? new[] { single } : ["Done"];
        // A loop around it is cut short with all that runs in it; otherwise the containers complete one after the other.
        for (var ancestor = ParentOf(instance); ancestor is not null; ancestor = ParentOf(ancestor))
        {
            if (ActivityOf(ancestor).Type is ActivityTypes.While or ActivityTypes.For or ActivityTypes.ForEach)
            {
                Cancel(ancestor, childrenFirst: true);
            }
        }

        Complete(instance, outcomes);
        if (Running().FirstOrDefault(a => a.ParentId is null) is { } root)
        {
            Cancel(root, childrenFirst: false);
            JournalWorkflow("Completed");
        }
    }

    private void RunTrigger(WorkflowActivity activity, ActivityInstance instance)
    {
        // It started the run: what it would wait for has happened, once.
        if (activity.Id == _state.TriggerActivityId && _state.Started[activity.Id] == 1)
        {
            if (activity.Type == ActivityTypes.Event)
            {
                CompleteWithResult(instance, _state.TriggerPayload);
            }
            else
            {
                Complete(instance, "Done");
            }

            return;
        }

        switch (activity.Type)
        {
            case ActivityTypes.Event:
                Await(instance, Awaited.Event, new WaitForEvent(instance.Id, Required(instance, "eventName"), _state.CorrelationId));
                break;
            case ActivityTypes.Timer:
                Await(instance, Awaited.Timer, new StartTimer(instance.Id, new DueAfter(Span(instance, "interval"))));
                break;
            case ActivityTypes.StartAt:
                Await(instance, Awaited.Timer, new StartTimer(instance.Id, new DueAt(DateTimeOffset.Parse(Required(instance, "dateTime"), CultureInfo.InvariantCulture))));
                break;
            default:
                var cron = Required(instance, "cronExpression");
                if (CronText.Check(cron) is { } error)
                {
                    throw new ActivityFaultException($"Failed to evaluate activity input 'CronExpression': {error}");
                }

                Await(instance, Awaited.Timer, new StartTimer(instance.Id, new DueByCron(cron)));
                break;
        }
    }

    // A name-based identifier: the same run and activity instance ask for the same child, however often the transition is computed.
    private Guid ChildId(ActivityInstance instance) => Identifiers.Derive($"{_state.InstanceId}/child/{instance.Id}");

    private JsonObject ChildReference(ActivityInstance instance) => new() { ["workflowInstanceId"] = ChildId(instance).ToString() };

    private JsonNode? ChildResult(ActivityInstance instance, ChildEnded e)
    {
        if (ActivityOf(instance).Type == ActivityTypes.DispatchWorkflow)
        {
            return e.Outputs.DeepClone();
        }

        var result = ChildReference(instance);
        (result["status"], result["subStatus"], result["output"]) = ("Finished", e.Status.ToString(), e.Outputs.DeepClone());
        return result;
    }

    private void Output(ActivityInstance instance, string key, JsonNode? value)
    {
        instance.Outputs[key] = Counted(value)?.DeepClone();
        if ((ActivityOf(instance).Json.Member(key) as JsonObject)?.Member("memoryReference") is JsonObject reference && reference.Text("id") is { } id
            && !new VariableScope(_definition, _state, instance).TrySetById(id, value) && _definition.Outputs.Any(o => o.Name == id))
        {
            _state.Outputs[id] = value?.DeepClone();
        }
    }

    private JsonNode? Value(WorkflowActivity activity, ActivityInstance instance, ActivityInput input)
    {
        try
        {
            var context = new ScriptContext(new VariableScope(_definition, _state, instance), instance);
            var (value, error) = TypedValue.Convert(
                _expressions.TryEvaluate(activity, input.Key, context, out var given) ? given : input.Default, input.Type);
            error ??= input.Choices is { } choices && value.AsText() is { } text && !choices.Contains(text, StringComparer.Ordinal)
                ? $"expects one of {string.Join(", ", choices)}, got '{text}'"
                : null;
            return error is null ? Counted(value) : throw new ExpressionException(error);
        }
        catch (ExpressionException e)
        {
            throw new ActivityFaultException($"Failed to evaluate activity input '{input.Name}': {e.Message} (activity '{activity.Id}')", e);
        }
    }

    private JsonNode? Evaluate(string subject, ActivityInstance instance, JsonObject expression)
    {
        try
        {
            return _expressions.TryEvaluate(expression, new ScriptContext(new VariableScope(_definition, _state, instance), instance), out var value) ? value : null;
        }
        catch (ExpressionException e)
        {
            throw new ActivityFaultException($"Failed to evaluate {subject}: {e.Message}", e);
        }
    }

    private static bool AsBoolean(JsonNode? value) =>
        TypedValue.Convert(value, "Boolean") is (var flag, null) ? flag is not null && flag.GetValue<bool>() : throw new ActivityFaultException($"A condition expects true or false, got {TypedValue.Show(value)}");

    private static bool IsTrue(ActivityInstance instance, string input) => AsBoolean(instance.Inputs.GetValueOrDefault(input));

    private static string? Text(ActivityInstance instance, string input) => instance.Inputs.GetValueOrDefault(input).AsText();

    private static string Required(ActivityInstance instance, string input) => Text(instance, input) is { Length: > 0 } text
        ? text
        : throw new ActivityFaultException($"Input '{char.ToUpperInvariant(input[0])}{input[1..]}' has no value.");

    private static long Whole(ActivityInstance instance, string input) => instance.Inputs.GetValueOrDefault(input)?.GetValue<long>() ?? 0;

    private static TimeSpan Span(ActivityInstance instance, string input) => TimeSpan.Parse(Required(instance, input), CultureInfo.InvariantCulture);

    private static string[] Texts(ActivityInstance instance, string input) =>
        instance.Inputs.GetValueOrDefault(input) is JsonArray array ? [.. array.Select(item => item.AsText()).OfType<string>()] : [];
}

/// <summary>GUIDs that follow from a name alone, so that a replay asks for the same ones.</summary>
internal static class Identifiers
{
    public static Guid Derive(string name)
    {
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(Encoding.UTF8.GetBytes(name), hash);

        // Version 8 of RFC 9562: made by our own rule.
        hash[6] = (byte)((hash[6] & 0x0F) | 0x80);
        hash[8] = (byte)((hash[8] & 0x3F) | 0x80);
        return new Guid(hash[..16], bigEndian: true);
    }
}
