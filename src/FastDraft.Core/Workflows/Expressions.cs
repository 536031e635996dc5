using System.Diagnostics;
using System.Text.Json.Nodes;

namespace FastDraft.Core.Workflows;

/// <summary>An expression that could not be evaluated.</summary>
internal sealed class ExpressionException(string message, Exception? inner = null) : Exception(message.Length <= 1000 ? message : message[..997] + "...", inner);

/// <summary>Where an expression is evaluated. <paramref name="Outcomes"/> is a list only for RunJavaScript, whose script may fill it.</summary>
internal sealed record ScriptContext(VariableScope Scope, ActivityInstance Instance, List<string>? Outcomes = null);

/// <summary>
/// Evaluates the expression types of a definition. None of them reaches the CLR, a clock, randomness, files or the network, and each is
/// bounded in time, memory and depth: what a definition says is data from outside.
/// </summary>
internal sealed class Expressions(WorkflowDefinition definition, WorkflowState state)
{
    /// <summary>Those that a workflow may use.</summary>
    public static readonly IReadOnlySet<string> Types =
        new HashSet<string>(["Literal", "Object", "Json", "Variable", "Input", "JavaScript", "Liquid", "CSharp"], StringComparer.Ordinal);

    // Each is bounded; in a loop without a wait, thousands of them would still hold the runtime for hours.
    private static readonly TimeSpan MaxTime = TimeSpan.FromMinutes(1);

    private readonly JavaScriptExpressions _scripts = new(definition, state);
    private TimeSpan _spent;

    /// <summary>False where the input is absent or counts as unset.</summary>
    public bool TryEvaluate(WorkflowActivity activity, string input, ScriptContext context, out JsonNode? value)
    {
        value = null;
        switch (activity.Json.Member(input))
        {
            case JsonValue bare:
                value = bare.DeepClone();
                return true;
            case JsonArray bare:
                value = bare.DeepClone();
                return true;
            case JsonObject wrapped when wrapped.Member("typeName") is not null && wrapped.Member("expression") is JsonObject expression:
                return TryEvaluate(expression, context, out value);
            default:
                return false;
        }
    }

    public bool TryEvaluate(JsonObject expression, ScriptContext context, out JsonNode? value)
    {
        value = null;

        // An absent type leaves the input unset, a null one means Literal: that is what Elsa does.
        if (!expression.Any(member => string.Equals(member.Key, "type", StringComparison.OrdinalIgnoreCase)))
        {
            return false;
        }

        value = Evaluate(expression.Text("type") ?? "Literal", expression.Member("value"), context);
        return value is not null;
    }

    public JsonNode? RunScript(string source, ScriptContext context) => Timed(() => _scripts.Evaluate(source, context));

    private JsonNode? Timed(Func<JsonNode?> evaluate)
    {
        if (_spent > MaxTime)
        {
            throw new ExpressionException($"expressions took more than {MaxTime.TotalSeconds} seconds without a stage or a wait between them");
        }

        var started = Stopwatch.GetTimestamp();
        try
        {
            return evaluate();
        }
        finally
        {
            _spent += Stopwatch.GetElapsedTime(started);
        }
    }

    private JsonNode? Evaluate(string type, JsonNode? given, ScriptContext context) => type switch
    {
        "Literal" => given?.DeepClone(),
        "Object" or "Json" => given is JsonValue && given.AsText() is { } text
            ? JsonMembers.ParseOrNull(text) ?? (text.Trim() is "" or "null" ? null : throw new ExpressionException("the value is not JSON"))
            : given?.DeepClone(),
        "Variable" => Variable(Reference(given), context),
        "Input" => state.Inputs.GetValueOrDefault(Reference(given)?.Text("name") ?? given.AsText() ?? "")?.DeepClone(),
        "JavaScript" => RunScript(given.AsText() ?? "", context),
        "Liquid" => Timed(() => LiquidTemplates.Render(given.AsText() ?? "", definition, state, context)),
        "CSharp" => new CSharpExpression(given.AsText() ?? "", name => context.Scope.TryGetByName(name, out var value)
            ? value
            : throw new ExpressionException($"there is no variable '{name}'"), name => state.Inputs.GetValueOrDefault(name)).Evaluate(),
        _ => throw new ExpressionException($"expressions of type {type} are not supported"),
    };

    private static JsonObject? Reference(JsonNode? given) => given as JsonObject ?? JsonMembers.ParseOrNull(given.AsText()) as JsonObject;

    private static JsonNode? Variable(JsonObject? reference, ScriptContext context) =>
        reference?.Text("id") is { } id && context.Scope.TryGetById(id, out var value) ? value?.DeepClone()
        : reference?.Text("name") is { } name && context.Scope.TryGetByName(name, out value) ? value?.DeepClone()
        : throw new ExpressionException($"there is no variable with id '{reference?.Text("id")}'");
}
