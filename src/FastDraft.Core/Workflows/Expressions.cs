using System.Text.Json.Nodes;
using Jint;
using Jint.Native;
using Jint.Native.Json;
using Jint.Runtime.Interop;

namespace FastDraft.Core.Workflows;

/// <summary>An activity input that could not be evaluated.</summary>
internal sealed class ExpressionException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>
/// Evaluates Literal, Object, Variable, Input and JavaScript. Scripts see no CLR, no clock and no randomness, so that a replay
/// gives what the first run gave; they have one second, 64 MiB and 200 levels of calls.
/// </summary>
internal sealed class Expressions(WorkflowDefinition definition, WorkflowState state)
{
    /// <summary>False where the input is absent or counts as unset.</summary>
    public bool TryEvaluate(WorkflowActivity activity, string input, out JsonNode? value)
    {
        value = null;
        switch (activity.Json.Member(input))
        {
            case JsonValue bare:
                value = bare.DeepClone();
                return true;
            case JsonObject wrapped when wrapped.Member("typeName") is not null && wrapped.Member("expression") is JsonObject expression:
                return TryEvaluate(expression, out value);
            default:
                return false;
        }
    }

    public bool TryEvaluate(JsonObject expression, out JsonNode? value)
    {
        value = null;

        // An absent type leaves the input unset, a null one means Literal: that is what Elsa does.
        if (!expression.Any(member => string.Equals(member.Key, "type", StringComparison.OrdinalIgnoreCase)))
        {
            return false;
        }

        var given = expression.Member("value");
        value = Evaluate(expression.Text("type") ?? "Literal", given);
        return value is not null;
    }

    private JsonNode? Evaluate(string type, JsonNode? given) => type switch
    {
        "Literal" => given?.DeepClone(),
        "Object" or "Json" => given is JsonValue && given.AsText() is { } text
            ? JsonMembers.ParseOrNull(text) ?? (text.Length == 0 ? null : throw new ExpressionException("the value is not JSON"))
            : given?.DeepClone(),
        "Variable" => Variable(Reference(given)),
        "Input" => Input(Reference(given)?.Text("name") ?? given.AsText() ?? ""),
        "JavaScript" => Script(given.AsText() ?? ""),
        _ => throw new ExpressionException($"expressions of type {type} are not supported"),
    };

    private static JsonObject? Reference(JsonNode? given) => given as JsonObject ?? JsonMembers.ParseOrNull(given.AsText()) as JsonObject;

    private JsonNode? Variable(JsonObject? reference) => reference?.Text("id") is { } id && state.Variables.TryGetValue(id, out var value)
        ? value?.DeepClone()
        : throw new ExpressionException($"there is no variable with id '{reference?.Text("id")}'");

    private JsonNode? Input(string name) => state.Inputs.GetValueOrDefault(name)?.DeepClone();

    private JsonNode? Script(string source)
    {
        // The engine throws a dozen unrelated types (syntax, script error, time, memory, recursion); for the workflow all are one thing.
        try
        {
            using var engine = new Engine(options => options
                .TimeoutInterval(TimeSpan.FromSeconds(1)).LimitMemory(64 << 20).LimitRecursion(200));
            engine.Execute("delete Math.random; delete globalThis.Date;");
            var parser = new JsonParser(engine);
            var serializer = new JsonSerializer(engine);
            Define("getVariable", args => ToScript(ByName(Argument(args, 0))));
            Define("setVariable", args => Assign(Argument(args, 0), args.Length > 1 ? args[1] : JsValue.Null));
            Define("getInput", args => ToScript(Input(Argument(args, 0))));
            Define("getWorkflowDefinitionId", _ => definition.DefinitionId);
            Define("getWorkflowDefinitionVersion", _ => definition.Version);
            Define("isNullOrEmpty", args => Argument(args, 0).Length == 0);
            Define("isNullOrWhiteSpace", args => string.IsNullOrWhiteSpace(Argument(args, 0)));
            engine.Execute("globalThis.variables = {}; globalThis.toJson = x => JSON.stringify(x);");
            foreach (var variable in definition.Variables.Where(v => v.Name.Length > 0))
            {
                var name = System.Text.Json.JsonSerializer.Serialize(variable.Name);
                engine.Execute($"Object.defineProperty(variables, {name}, {{ get: () => getVariable({name}), set: v => setVariable({name}, v), enumerable: true }});");
                Define("get" + Capital(variable.Name), _ => ToScript(ByName(variable.Name)));
                Define("set" + Capital(variable.Name), args => Assign(variable.Name, args.Length > 0 ? args[0] : JsValue.Null));
            }

            return FromScript(engine.Evaluate(source, new ScriptParsingOptions { AllowReturnOutsideFunction = true }));

            void Define(string name, Func<JsValue[], JsValue> body) =>
                engine.SetValue(name, new ClrFunction(engine, name, (_, args) => body([.. args])));

            JsValue ToScript(JsonNode? node) => node is null ? JsValue.Null : parser.Parse(node.ToJsonString());

            JsonNode? FromScript(JsValue value) => value.IsUndefined() || value.IsNull()
                ? null
                : JsonMembers.ParseOrNull(serializer.Serialize(value, JsValue.Undefined, JsValue.Undefined).ToString());

            JsValue Assign(string name, JsValue value)
            {
                var variable = definition.Variables.FirstOrDefault(v => v.Name == name)
                    ?? throw new ExpressionException($"there is no variable '{name}'");
                state.Variables[variable.Id] = FromScript(value);
                return JsValue.Undefined;
            }
        }
        catch (Exception e) when (e is not ExpressionException)
        {
            throw new ExpressionException(e.Message, e);
        }
    }

    private JsonNode? ByName(string name) => definition.Variables.FirstOrDefault(v => v.Name == name) is { } variable
        ? state.Variables.GetValueOrDefault(variable.Id)
        : null;

    private static string Argument(JsValue[] args, int index) =>
        args.Length <= index || args[index].IsNull() || args[index].IsUndefined() ? "" : args[index].ToString();

    private static string Capital(string name) => char.ToUpperInvariant(name[0]) + name[1..];
}
