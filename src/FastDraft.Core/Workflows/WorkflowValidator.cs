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

    private static readonly HashSet<string> ExpressionTypes =
        new(["Literal", "Object", "Json", "Variable", "Input", "JavaScript"], StringComparer.Ordinal);

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

            Connections(activity);
            if (_stages.TryGetValue(activity.Type, out var stage))
            {
                Stage(activity, stage);
            }
            else if (CoreActivities.ByType.TryGetValue(activity.Type, out var core))
            {
                Known(activity, $"activity '{activity.Id}'", [.. core.Inputs.Select(i => i.Key)], [.. core.Outputs.Select(o => o.Key)]);
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

    private void CoreInputs(WorkflowActivity activity, CoreActivity core)
    {
        foreach (var input in core.Inputs.Select(i => i.Key))
        {
            Expression(activity, input, $"activity '{activity.Id}': setting '{input}'", out _);
        }

        switch (activity.Type)
        {
            case ActivityTypes.FlowJoin when Literal(activity, "mode").AsText() is { } mode && mode is not ("WaitAny" or "WaitAll" or "WaitAllActive"):
                Add(activity.Json, "mode", $"activity '{activity.Id}': setting 'mode' expects one of WaitAny, WaitAll, WaitAllActive; got '{mode}'",
                    DidYouMean(Spelling.Nearest(mode, ["WaitAny", "WaitAll", "WaitAllActive"])));
                break;
            case ActivityTypes.FlowDecision when Literal(activity, "condition").AsText() is { } condition && !bool.TryParse(condition, out _):
                Add(activity.Json, "condition", $"activity '{activity.Id}': setting 'condition' expects true or false, got '{condition}'", null);
                break;
            case ActivityTypes.SetVariable:
                var id = (activity.Json.Member("variable") as JsonObject)?.Text("id");
                if (!definition.Variables.Any(v => v.Id == id))
                {
                    Add(activity.Json, "variable", $"activity '{activity.Id}': there is no variable with id '{id}'",
                        DidYouMean(Spelling.Nearest(id ?? "", definition.Variables.Select(v => v.Id))));
                }

                break;
        }
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
        else if (nearest.Count > 1)
        {
            var names = nearest.Select(c => $"'{c.ActivityId}.{c.Port}'").ToList();
            Add(activity.Json, null, $"{subject} is ambiguous: {string.Join(" and ", names)} are equally near", $"set '{port.Name}' to {names[0]}");
        }
    }

    private void Wired(WorkflowActivity activity, PortDescriptor port, string subject, string text)
    {
        var upstream = PortBinding.Upstream(activity, port.Kind, _stages);
        var right = PortBinding.Nearest(upstream, port.Name) is [var first, ..] ? $"set '{port.Name}' to '{first.ActivityId}.{first.Port}'" : null;
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
        else if (!upstream.Any(c => c.ActivityId == id))
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

        var type = expression.Text("type") ?? "Literal";
        var value = expression.Member("value");
        isSet = wrapped.Member("typeName") is not null && value is not null && expression.Any(m => string.Equals(m.Key, "type", StringComparison.OrdinalIgnoreCase));
        if (!ExpressionTypes.Contains(type))
        {
            Add(expression, "type", $"{subject}: expressions of type '{type}' are not supported", DidYouMean(Spelling.Nearest(type, ExpressionTypes)) ?? "use JavaScript");
            return false;
        }

        var reference = value as JsonObject ?? JsonMembers.ParseOrNull(value.AsText()) as JsonObject;
        switch (type)
        {
            case "Variable" when !definition.Variables.Any(v => v.Id == reference?.Text("id")):
                Add(expression, "value", $"{subject}: there is no variable with id '{reference?.Text("id")}'",
                    DidYouMean(Spelling.Nearest(reference?.Text("id") ?? "", definition.Variables.Select(v => v.Id))));
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
        var children = container.Children.Select(a => a.Id).ToHashSet(StringComparer.Ordinal);
        foreach (var connection in container.Connections)
        {
            End("source", connection.Source);
            End("target", connection.Target);
            var source = container.Children.FirstOrDefault(a => a.Id == connection.Source);
            if (source is not null && Outcomes(source) is { } outcomes && !outcomes.Contains(connection.SourcePort, StringComparer.Ordinal))
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
                if (!children.Contains(id))
                {
                    Add(connection.Json, end, $"A connection's {end} is '{id}', and '{container.Id}' has no such activity.", DidYouMean(Spelling.Nearest(id, children)));
                }
            }
        }
    }

    // Null where only a run knows the outcomes, or where the type is unknown and reported as such.
    private IReadOnlyList<string>? Outcomes(WorkflowActivity activity) => activity.Type switch
    {
        ActivityTypes.FlowDecision => ["True", "False"],
        ActivityTypes.Finish => [],
        ActivityTypes.FlowSwitch => [.. activity.Json.Objects("cases").Select(c => c.Text("label") ?? ""), "Default"],
        ActivityTypes.FlowFork => Literal(activity, "branches") switch
        {
            JsonArray array => [.. array.Select(b => b.AsText() ?? ""), "Done"],
            null when activity.Json.Member("branches") is null => ["Done"],
            _ => null,
        },
        _ => _stages.TryGetValue(activity.Type, out var stage) ? stage.Outcomes
            : !CoreActivities.ByType.TryGetValue(activity.Type, out var core) ? null
            : core.Outcomes.Count > 0 ? core.Outcomes : ["Done"],
    };
}
