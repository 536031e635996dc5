using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Scriban;
using Scriban.Functions;
using Scriban.Parsing;
using Scriban.Runtime;
using Scriban.Syntax;

namespace FastDraft.Core.Workflows;

/// <summary>
/// Liquid templates over <c>Variables</c> and <c>Input</c>. Templates see JSON values alone, never CLR objects; they include no other
/// template, know no time and no chance, and stop at 0.9 seconds of processor time, 10,000 rounds and a million characters.
/// </summary>
internal static class LiquidTemplates
{
    private const int MaxLength = 1 << 20;
    private const int MaxRounds = 10_000;

    // With them a replay would not give the same text, or the template would write another one.
    private static readonly (string Owner, string Function)[] Withheld =
        [("date", "now"), ("math", "random"), ("math", "uuid"), ("object", "eval"), ("object", "eval_template")];

    // The first template of a process compiles the engine; that is not the template's time.
    static LiquidTemplates() => Template.ParseLiquid("{% for i in (1..2) %}{{ i | plus: 1 }}{% endfor %}").Render(new LiquidTemplateContext());

    /// <exception cref="ExpressionException">It does not parse, fails, or goes past a limit.</exception>
    public static string Render(string source, WorkflowDefinition definition, WorkflowState state, ScriptContext context)
    {
        var template = Parse(source);
        var model = new ScriptObject(StringComparer.Ordinal)
        {
            ["Variables"] = Members(context.Scope.Names().Select(name => KeyValuePair.Create(name, context.Scope.TryGetByName(name, out var value) ? value : null))),
            ["Input"] = Members(state.Inputs),
            ["WorkflowInstanceId"] = state.InstanceId,
            ["WorkflowInstanceName"] = state.Name,
            ["CorrelationId"] = state.CorrelationId,
            ["WorkflowDefinitionId"] = definition.DefinitionId,
            ["WorkflowDefinitionVersion"] = definition.Version,
        };
        var run = new BoundedContext
        {
            LoopLimit = MaxRounds,
            RecursiveLimit = 50,
            LimitToString = MaxLength,
            OutputLimit = MaxLength,
            OnStringLimit = ScriptLimitBehavior.Throw,
            OnOutputLimit = ScriptLimitBehavior.Throw,
            ObjectRecursionLimit = 32,
            RegexTimeOut = TimeSpan.FromMilliseconds(100),
            EnableRelaxedMemberAccess = true,
            StrictVariables = false,
            MemberRenamer = member => member.Name,
        };
        foreach (var (owner, function) in Withheld)
        {
            (run.BuiltinObject[owner] as ScriptObject)?.Remove(function);
        }

        run.PushCulture(CultureInfo.InvariantCulture);
        run.PushGlobal(model);

        // Scriban throws its own exceptions, and those of what it calls.
        try
        {
            return template.Render(run);
        }
        catch (Exception e)
        {
            throw new ExpressionException(e.GetBaseException().Message, e);
        }
    }

    private sealed class BoundedContext : LiquidTemplateContext
    {
        private readonly ProcessorTime _time = new();

        public override object? Evaluate(ScriptNode? scriptNode, bool aliasReturnedFunction)
        {
            _time.Check();
            return base.Evaluate(scriptNode, aliasReturnedFunction);
        }
    }

    /// <exception cref="ExpressionException">It does not parse.</exception>
    public static Template Parse(string source)
    {
        if (source.Length > MaxLength)
        {
            throw new ExpressionException($"the template has {source.Length} characters; at most {MaxLength} are read");
        }

        try
        {
            var template = Template.ParseLiquid(source, parserOptions: new ParserOptions { ExpressionDepthLimit = 100, LiquidFunctionsToScriban = false });
            return template.HasErrors ? throw new ExpressionException(string.Join("; ", template.Messages.Select(m => m.Message))) : template;
        }
        catch (Exception e) when (e is not ExpressionException)
        {
            throw new ExpressionException(e.Message, e);
        }
    }

    private static ScriptObject Members(IEnumerable<KeyValuePair<string, JsonNode?>> members)
    {
        var result = new ScriptObject(StringComparer.Ordinal);
        foreach (var (name, value) in members)
        {
            result[name] = Value(value);
        }

        return result;
    }

    private static object? Value(JsonNode? node) => node switch
    {
        JsonObject json => Members(json),
        JsonArray array => new ScriptArray(array.Select(Value)),
        null => null,
        _ => node.GetValueKind() switch
        {
            JsonValueKind.True => true,
            JsonValueKind.False => false,
            JsonValueKind.Number => node.AsValue().TryGetValue<long>(out var whole) ? whole : double.Parse(node.ToJsonString(), CultureInfo.InvariantCulture),
            _ => node.AsText(),
        },
    };
}
