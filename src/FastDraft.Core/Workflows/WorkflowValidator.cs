using System.Text.Json.Nodes;
using FastDraft.Core.Stages;

namespace FastDraft.Core.Workflows;

/// <summary>One mistake in a workflow file. Line and column count from 1. <paramref name="Try"/> is what to write instead.</summary>
public sealed record WorkflowError(string File, int Line, int Column, string JsonPath, string Message, string? Try);

/// <summary>Finds every mistake of a workflow that can be known before it runs, all at once.</summary>
public static class WorkflowValidator
{
    /// <returns>In the order of the file; empty when the workflow may run.</returns>
    public static IReadOnlyList<WorkflowError> Validate(string json, string fileName, IReadOnlyList<StageDescriptor> stages)
    {
        try
        {
            var places = JsonPlaces.Read(json);
            var check = new WorkflowCheck(WorkflowDefinition.Parse(json), places, fileName, stages);
            check.Run();
            return [.. check.Errors.OrderBy(e => e.Line).ThenBy(e => e.Column)];
        }
        catch (WorkflowFormatException e)
        {
            return [new WorkflowError(fileName, e.Line, e.Column, e.JsonPath, e.Message, null)];
        }
    }
}

internal sealed class WorkflowCheck(
    WorkflowDefinition definition, JsonPlaces places, string fileName, IReadOnlyList<StageDescriptor> stages)
{
    private static readonly HashSet<string> Reserved = new(
        [
            "id", "nodeId", "name", "type", "version", "customProperties", "metadata", "canStartWorkflow", "runAsynchronously",
            "applicationProperties", "activities", "connections", "variables", "start", "result",
        ],
        StringComparer.OrdinalIgnoreCase);

    private readonly Dictionary<string, StageDescriptor> _stages = stages.ToDictionary(s => s.ActivityType, StringComparer.Ordinal);
    private readonly List<WorkflowError> _errors = [];

    public IReadOnlyList<WorkflowError> Errors => _errors;

    public void Run()
    {
        var all = definition.Root.SelfAndDescendants().ToList();
        var seen = new HashSet<string>(StringComparer.Ordinal);
        foreach (var activity in all)
        {
            if (activity.Id.Length == 0)
            {
                Add(activity.Json, null, "An activity has no 'id'.", null);
            }
            else if (!seen.Add(activity.Id))
            {
                Add(activity.Json, "id", $"Two activities have the id '{activity.Id}'.", "give each activity its own id");
            }

            Shape(activity);
            Connections(activity);
            if (_stages.TryGetValue(activity.Type, out var stage))
            {
                Stage(activity, stage);
            }
            else if (CoreActivities.ByType.TryGetValue(activity.Type, out var core))
            {
                Known(activity, $"activity '{activity.Id}'", [.. core.Inputs.Select(i => i.Key), .. core.Slots.Select(CoreActivity.CamelCase), .. core.ChildList is { } list ? new[] { list } : []],
                    [.. core.Outputs.Select(o => o.Key)]);
                CoreInputs(activity, core);
            }
            else
            {
                var near = Spelling.Nearest(activity.Type, _stages.Keys.Concat(CoreActivities.ByType.Keys));
                Add(activity.Json, "type", $"activity '{activity.Id}': unknown activity type '{activity.Type}'", DidYouMean(near));
            }
        }
    }

    private static string? DidYouMean(string? near) => near is null ? null : $"did you mean '{near}'?";

    private void Add(JsonNode owner, string? member, string message, string? hint, bool atName = false)
    {
        var path = JsonPlaces.PathOf(owner);
        if (member is not null)
        {
            var written = (owner as JsonObject)?.Select(m => m.Key).FirstOrDefault(k => string.Equals(k, member, StringComparison.OrdinalIgnoreCase));
            path += written is null ? "" : "." + written;
        }

        AddAt(path, message, hint, atName);
    }

    private void AddAt(string path, string message, string? hint, bool atName = false)
    {
        var (line, column) = places.Find(path, atName);
        _errors.Add(new WorkflowError(fileName, line, column, path, message, hint));
    }

    private void Known(WorkflowActivity activity, string subject, IReadOnlyList<string> inputs, IReadOnlyList<string> outputs)
    {
        foreach (var (key, value) in activity.Json)
        {
            var isOutput = value is JsonObject json && json.Member("expression") is null && outputs.Contains(key, StringComparer.OrdinalIgnoreCase);
            if (!Reserved.Contains(key) && !isOutput && !inputs.Contains(key, StringComparer.OrdinalIgnoreCase))
            {
                var near = Spelling.Nearest(key, inputs);
                Add(activity.Json, key, $"{subject}: unknown setting '{key}'",
                    DidYouMean(near) ?? (inputs.Count == 0 ? "remove it: this activity has no settings" : "one of " + string.Join(", ", inputs)), atName: true);
            }
        }
    }

    // What is no activity where one is meant would be read as if nothing stood there.
    private void Shape(WorkflowActivity activity)
    {
        var subject = $"activity '{activity.Id}'";
        List("connections", "a connection");
        if ((activity.Core is null ? "activities" : activity.Core.ChildList) is { } children)
        {
            List(children, "an activity");
        }

        foreach (var slot in (activity.Core?.Slots ?? []).Select(CoreActivity.CamelCase))
        {
            Holds(activity.Json, slot, "an activity");
        }

        foreach (var input in (activity.Core?.Inputs ?? []).Where(i => i.Shape is InputShape.Cases))
        {
            List(input.Key, "a case");
            foreach (var json in activity.Json.Objects(input.Key))
            {
                Holds(json, "activity", "an activity");
            }
        }

        void List(string member, string what)
        {
            if (activity.Json.Member(member) is not JsonArray array)
            {
                Holds(activity.Json, member, what);
                return;
            }

            foreach (var item in array.Index().Where(i => i.Item is not JsonObject))
            {
                AddAt($"{JsonPlaces.PathOf(array)}[{item.Index}]", $"{subject}: '{member}' holds {TypedValue.Show(item.Item)}, which is not {what}", null);
            }
        }

        void Holds(JsonObject owner, string member, string what)
        {
            if (owner.Member(member) is { } value and not JsonObject)
            {
                AddAt(JsonPlaces.PathOf(value), $"{subject}: '{member}' holds {TypedValue.Show(value)}, which is not {what}", null);
            }
        }
    }

    private void CoreInputs(WorkflowActivity activity, CoreActivity core)
    {
        foreach (var input in core.Inputs)
        {
            var subject = $"activity '{activity.Id}': setting '{input.Key}'";
            if (input.Shape is InputShape.Cases)
            {
                Cases(activity, input);
                continue;
            }

            if (!Expression(activity, input.Key, subject, out var isSet))
            {
                continue;
            }

            if (input.Required && input.Shape is InputShape.Wrapped && (!isSet || Literal(activity, input.Key).AsText() is ""))
            {
                Add(activity.Json, input.Key, $"activity '{activity.Id}': required setting '{input.Key}' has no value", input.Description);
            }
            else if (Literal(activity, input.Key) is { } literal && Wrong(input, literal) is { } error)
            {
                Add(activity.Json, input.Key, $"{subject} {error}",
                    input.Choices is null ? null : DidYouMean(Spelling.Nearest(literal.AsText() ?? "", input.Choices)));
            }
        }

        switch (activity.Type)
        {
            case ActivityTypes.SetVariable:
                var id = (activity.Json.Member("variable") as JsonObject)?.Text("id");
                if (InScope(activity).FirstOrDefault(v => v.Id == id) is not { } variable)
                {
                    Add(activity.Json, "variable", $"activity '{activity.Id}': there is no variable with id '{id}'",
                        DidYouMean(Spelling.Nearest(id ?? "", InScope(activity).Select(v => v.Id))));
                }
                else if (Literal(activity, "value") is { } literal && variable.Hold(literal).Error is { } error)
                {
                    Add(activity.Json, "value", $"activity '{activity.Id}': variable '{variable.Name}' {error}", null);
                }

                break;
            case ActivityTypes.For when Literal(activity, "step") is { } step && TypedValue.Convert(step, "Int32").Value?.GetValue<long>() == 0:
                Add(activity.Json, "step", $"activity '{activity.Id}': setting 'step' is 0, and the loop would not end", "set it to 1, or to -1 to count down");
                break;
            case ActivityTypes.ExecuteWorkflow or ActivityTypes.DispatchWorkflow when Literal(activity, "workflowDefinitionId").AsText() == definition.DefinitionId
                && (activity.Type == ActivityTypes.ExecuteWorkflow || Literal(activity, "waitForCompletion").AsText() is "True" or "true"):
                Add(activity.Json, "workflowDefinitionId", $"activity '{activity.Id}': the workflow '{definition.DefinitionId}' would run itself and wait for it", "use a loop");
                break;
        }
    }

    private static string? Wrong(ActivityInput input, JsonNode literal) =>
        input.Choices is { } choices
            ? literal.AsText() is { } text && choices.Contains(text, StringComparer.Ordinal) ? null : $"expects one of {string.Join(", ", choices)}; got '{literal.AsText()}'"
        : input.Name == "CronExpression" ? CronText.Check(literal.AsText())
        : TypedValue.Convert(literal, input.Type).Error;

    private void Cases(WorkflowActivity activity, ActivityInput input)
    {
        var labels = new HashSet<string>(StringComparer.Ordinal);
        foreach (var json in activity.Json.Objects(input.Key))
        {
            var label = json.Text("label") ?? "";
            if (label.Length == 0 && activity.Type == ActivityTypes.FlowSwitch)
            {
                Add(json, "label", $"activity '{activity.Id}': a case has no 'label', and no connection can leave by it", "give each case its own label");
            }
            else if (!labels.Add(label))
            {
                Add(json, "label", $"activity '{activity.Id}': two cases have the label '{label}'", "give each case its own label");
            }

            if (json.Member("condition") is JsonObject condition)
            {
                Expression(activity, condition, $"activity '{activity.Id}': case '{label}'");
            }
            else
            {
                Add(json, "condition", $"activity '{activity.Id}': case '{label}' has no condition, and would never be taken", "write it as { \"type\": \"JavaScript\", \"value\": \"...\" }");
            }
        }
    }

    /// <summary>The variables of the containers around an activity and of the workflow.</summary>
    private IEnumerable<WorkflowVariable> InScope(WorkflowActivity activity)
    {
        for (var at = activity; at is not null; at = at.Parent)
        {
            foreach (var variable in at.Variables)
            {
                yield return variable;
            }
        }

        foreach (var variable in definition.Variables)
        {
            yield return variable;
        }
    }

    private static bool IsInLoop(WorkflowActivity activity)
    {
        for (var at = activity.Parent; at is not null; at = at.Parent)
        {
            if (at.Type is ActivityTypes.For or ActivityTypes.ForEach or ActivityTypes.ParallelForEach)
            {
                return true;
            }
        }

        return false;
    }

    private void Stage(WorkflowActivity activity, StageDescriptor stage)
    {
        var subject = $"stage '{activity.Id}'";
        Known(activity, subject, [.. stage.Settings.Select(s => s.Name), .. stage.Inputs.Select(p => p.Name)], [.. stage.Outputs.Select(p => p.Name)]);
        foreach (var setting in stage.Settings)
        {
            if (!Expression(activity, setting.Name, $"{subject}: setting '{setting.Name}'", out var isSet))
            {
                continue;
            }

            if (!isSet)
            {
                if (setting.Required && setting.Default is null)
                {
                    Add(activity.Json, setting.Name, $"{subject}: required setting '{setting.Name}' has no value", setting.Description);
                }

                continue;
            }

            if (Literal(activity, setting.Name) is { } literal && SettingValue.Convert(setting, literal).Error is { } error)
            {
                var near = setting.Choices is { } choices ? Spelling.Nearest(literal.AsText() ?? "", choices) : null;
                Add(activity.Json, setting.Name, $"{subject}: setting '{setting.Name}' {error}", DidYouMean(near));
            }
        }

        foreach (var port in stage.Inputs.Where(p => p.UnlessSetting is not { } setting || !IsGiven(activity, setting)))
        {
            if (Expression(activity, port.Name, $"{subject}: input '{port.Name}'", out var isSet))
            {
                Port(activity, port, isSet);
            }
        }
    }

    private void Port(WorkflowActivity activity, PortDescriptor port, bool isSet)
    {
        var subject = $"stage '{activity.Id}': input '{port.Name}'";
        if (isSet)
        {
            if (Literal(activity, port.Name).AsText() is { Length: > 0 } text)
            {
                Wired(activity, port, subject, text);
                return;
            }

            if (Literal(activity, port.Name) is null)
            {
                return;
            }
        }

        if (!port.Required)
        {
            return;
        }

        var nearest = PortBinding.Nearest(PortBinding.Upstream(activity, port.Kind, _stages), port.Name);
        if (nearest.Count == 0)
        {
            var makers = stages.Where(s => s.Outputs.Any(o => o.Kind == port.Kind)).Select(s => s.Name).ToList();
            Add(activity.Json, null, $"{subject} expects kind {port.Kind}, and no stage before it makes one",
                makers.Count == 0 ? null : "connect a stage that does: " + string.Join(", ", makers));
        }
        else if (PortBinding.IsAmbiguous(nearest, _stages))
        {
            var names = nearest.Select(c => $"'{c.Activity.Id}.{c.Port}'").ToList();
            Add(activity.Json, null, $"{subject} is ambiguous: {string.Join(" and ", names)} are equally near", $"set '{port.Name}' to {names[0]}");
        }
    }

    private void Wired(WorkflowActivity activity, PortDescriptor port, string subject, string text)
    {
        var upstream = PortBinding.Upstream(activity, port.Kind, _stages);
        var right = PortBinding.Nearest(upstream, port.Name) is [var first, ..] ? $"set '{port.Name}' to '{first.Activity.Id}.{first.Port}'" : null;
        var dot = text.LastIndexOf('.');
        var (id, output) = dot < 0 ? (text, "") : (text[..dot], text[(dot + 1)..]);
        if (definition.Activity(id) is not { } source)
        {
            var near = Spelling.Nearest(id, definition.Root.SelfAndDescendants().Where(a => _stages.ContainsKey(a.Type)).Select(a => a.Id));
            Add(activity.Json, port.Name, $"{subject} names '{text}', and there is no activity '{id}'",
                near is null ? right : DidYouMean(output.Length == 0 ? near : $"{near}.{output}"));
            return;
        }

        var outputs = _stages.TryGetValue(source.Type, out var stage) ? stage.Outputs : [];
        if (outputs.FirstOrDefault(o => o.Name == output) is not { } produced)
        {
            var near = Spelling.Nearest(output, outputs.Select(o => o.Name)) ?? outputs.FirstOrDefault(o => o.Kind == port.Kind)?.Name;
            Add(activity.Json, port.Name, $"{subject} names '{text}', and '{id}' has no output '{output}'", near is null ? right : DidYouMean($"{id}.{near}"));
        }
        else if (produced.Kind != port.Kind)
        {
            Add(activity.Json, port.Name, $"{subject} expects kind {port.Kind}, got {produced.Kind} (from '{text}')", right);
        }
        else if (!upstream.Any(c => c.Activity == source))
        {
            Add(activity.Json, port.Name, $"{subject} takes '{text}', and '{id}' does not run before '{activity.Id}'", right ?? $"connect '{id}' to '{activity.Id}'");
        }
    }

    /// <returns>False where the expression itself is wrong, which has then been reported.</returns>
    private bool Expression(WorkflowActivity activity, string input, string subject, out bool isSet)
    {
        var json = activity.Json.Member(input);
        isSet = json is JsonValue or JsonArray;
        if (json is not JsonObject wrapped || wrapped.Member("expression") is not JsonObject expression)
        {
            return true;
        }

        isSet = wrapped.Member("typeName") is not null && expression.Member("value") is not null
            && expression.Any(m => string.Equals(m.Key, "type", StringComparison.OrdinalIgnoreCase));
        return Expression(activity, expression, subject);
    }

    private bool Expression(WorkflowActivity activity, JsonObject expression, string subject)
    {
        var type = expression.Text("type") ?? "Literal";
        var value = expression.Member("value");
        if (!Expressions.Types.Contains(type))
        {
            Add(expression, "type", $"{subject}: expressions of type '{type}' are not supported", DidYouMean(Spelling.Nearest(type, Expressions.Types)) ?? "use JavaScript");
            return false;
        }

        var reference = value as JsonObject ?? JsonMembers.ParseOrNull(value.AsText()) as JsonObject;
        switch (type)
        {
            case "Variable" when !InScope(activity).Any(v => v.Id == reference?.Text("id") || (reference?.Text("name") is { } byName && v.Name == byName))
                && !(IsInLoop(activity) && (reference?.Text("id") ?? reference?.Text("name")) is "CurrentValue" or "CurrentIndex"):
                Add(expression, "value", $"{subject}: there is no variable with id '{reference?.Text("id")}'",
                    DidYouMean(Spelling.Nearest(reference?.Text("id") ?? "", InScope(activity).Select(v => v.Id))));
                return false;
            case "Input":
                var name = reference?.Text("name") ?? value.AsText() ?? "";
                if (!definition.Inputs.Any(i => i.Name == name))
                {
                    Add(expression, "value", $"{subject}: the workflow has no input '{name}'", DidYouMean(Spelling.Nearest(name, definition.Inputs.Select(i => i.Name))));
                    return false;
                }

                break;
            case "Object" or "Json" when value is JsonValue && value.AsText() is { Length: > 0 } text && JsonMembers.ParseOrNull(text) is null && text.Trim() != "null":
                Add(expression, "value", $"{subject}: the value is not JSON", null);
                return false;
        }

        return true;
    }

    private static bool IsGiven(WorkflowActivity activity, string input) => activity.Json.Member(input) switch
    {
        JsonObject wrapped => (wrapped.Member("expression") as JsonObject)?.Member("value") is not null,
        var bare => bare is not null,
    };

    // Null for anything that only a run can know.
    private static JsonNode? Literal(WorkflowActivity activity, string input)
    {
        var json = activity.Json.Member(input);
        if (json is not JsonObject wrapped)
        {
            return json;
        }

        var expression = wrapped.Member("typeName") is null ? null : wrapped.Member("expression") as JsonObject;
        return (expression?.Text("type") ?? "Literal") switch
        {
            "Literal" => expression?.Member("value"),
            "Object" or "Json" => expression?.Member("value") is JsonValue text ? JsonMembers.ParseOrNull(text.AsText()) : expression?.Member("value"),
            _ => null,
        };
    }

    private void Connections(WorkflowActivity container)
    {
        Loops(container);
        var outcomesOf = new Dictionary<WorkflowActivity, IReadOnlyList<string>?>();
        foreach (var connection in container.Connections)
        {
            End("source", connection.Source);
            End("target", connection.Target);
            if (container.ChildById(connection.Source) is { } source && OutcomesOf(source) is { } outcomes && !outcomes.Contains(connection.SourcePort, StringComparer.Ordinal))
            {
                Add(connection.Json, "source", $"A connection leaves '{connection.Source}' by the port '{connection.SourcePort}', which it does not have.",
                    DidYouMean(Spelling.Nearest(connection.SourcePort, outcomes)) ?? (outcomes.Count == 0 ? "remove it: this activity ends the workflow" : "one of " + string.Join(", ", outcomes)));
            }

            if (connection.TargetPort != "In")
            {
                Add(connection.Json, "target", $"A connection enters '{connection.Target}' by the port '{connection.TargetPort}', which it does not have.", "use 'In'");
            }

            void End(string end, string id)
            {
                if (container.ChildById(id) is null)
                {
                    Add(connection.Json, end, $"A connection's {end} is '{id}', and '{container.Id}' has no such activity.",
                        DidYouMean(Spelling.Nearest(id, container.Children.Select(c => c.Id))));
                }
            }
        }

        IReadOnlyList<string>? OutcomesOf(WorkflowActivity source) =>
            outcomesOf.TryGetValue(source, out var known) ? known : outcomesOf[source] = Outcomes(source);
    }

    // A trigger that starts the run is where its flowchart starts, and what is a loop depends on it.
    private void Loops(WorkflowActivity container)
    {
        if (container.Type != ActivityTypes.Flowchart)
        {
            return;
        }

        var starts = container.Children.Where(a => a is { CanStartWorkflow: true, Core.Kind: ActivityKind.Trigger } && a != container.Graph.Start);
        foreach (var connection in starts.Select(start => new FlowGraph(container, start)).Prepend(container.Graph).SelectMany(graph => graph.InvalidLoops()).Distinct())
        {
            Add(connection.Json, null,
                $"The connection from '{connection.Source}' back to '{connection.Target}' closes a loop that can be entered past '{connection.Target}': not every way from the start to '{connection.Source}' passes it.",
                $"connect '{connection.Source}' to an activity that every way passes, or use a While");
        }
    }

    // Null where only a run knows the outcomes, or where the type is unknown and reported as such.
    private IReadOnlyList<string>? Outcomes(WorkflowActivity activity)
    {
        if (_stages.TryGetValue(activity.Type, out var stage))
        {
            return stage.Outcomes;
        }

        if (activity.Core is not { } core)
        {
            return null;
        }

        if (core.IsTerminal)
        {
            return [];
        }

        if (core.OutcomesFrom is not { } from)
        {
            var (named, areKnown) = Completed(activity);
            return !areKnown ? null : core.Outcomes.Count > 0 ? core.Outcomes : [.. named, "Done"];
        }

        if (core.Input(from) is { Shape: InputShape.Cases })
        {
            return [.. activity.Json.Objects(from).Select(c => c.Text("label") ?? ""), .. core.Outcomes];
        }

        // A fork goes on by its branches alone; a script that sets no outcome goes on by Done.
        return Texts(activity, from) is not { } texts ? null
            : activity.Type == ActivityTypes.FlowFork && texts.Count > 0 ? texts
            : [.. texts, "Done"];
    }

    // A Complete inside gives what it is in its own outcomes.
    private static (List<string> Named, bool AreKnown) Completed(WorkflowActivity composite)
    {
        var completes = composite.SelfAndDescendants().Where(a => a.Type == ActivityTypes.Complete).Select(a => Texts(a, "outcomes")).ToList();
        return ([.. completes.SelectMany(texts => texts ?? [])], !completes.Contains(null));
    }

    /// <summary>The texts of a literal list or of a literal text; null where only a run knows them.</summary>
    private static IReadOnlyList<string>? Texts(WorkflowActivity activity, string input) => Literal(activity, input) switch
    {
        JsonArray list => [.. list.Select(item => item.AsText() ?? "")],
        JsonValue text => [text.AsText() ?? ""],
        _ => (activity.Json.Member(input) as JsonObject)?.Member("expression") is JsonObject expression && expression.Text("type") is not (null or "Literal" or "Object" or "Json") ? null : [],
    };
}
