using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Acornima.Ast;
using Jint;
using Jint.Native;
using Jint.Native.Json;
using Jint.Native.Object;
using Jint.Runtime.Interop;
using JsonParser = Jint.Native.Json.JsonParser;

namespace FastDraft.Core.Workflows;

/// <summary>
/// JavaScript expressions in Jint. Each evaluation has an engine of its own, nine tenths of a second, 32 MiB and 200 levels of calls. Of the
/// language's globals only those on a list remain (no Date, no Math.random, no typed arrays, no compilation of strings), and what makes
/// long texts from short ones is bounded before it starts, because the engine checks its limits only between statements.
/// </summary>
internal sealed partial class JavaScriptExpressions(WorkflowDefinition definition, WorkflowState state)
{
    private const int MaxSourceLength = 64 << 10;
    private const int MaxTemplateParts = 64;
    private const int MaxResultLength = 4 << 20;

    private static readonly Prepared<Script> Prelude = Engine.PrepareScript("""
        (() => {
            'use strict';
            const kept = ['Object', 'Array', 'String', 'Number', 'Boolean', 'Symbol', 'Math', 'JSON', 'Map', 'Set', 'RegExp', 'Error', 'TypeError',
                'RangeError', 'SyntaxError', 'ReferenceError', 'EvalError', 'URIError', 'NaN', 'Infinity', 'undefined', 'globalThis', 'parseInt',
                'parseFloat', 'isNaN', 'isFinite', 'encodeURI', 'encodeURIComponent', 'decodeURI', 'decodeURIComponent', 'Function'];
            for (const name of Object.getOwnPropertyNames(globalThis)) if (!kept.includes(name)) delete globalThis[name];
            delete Math.random; delete String.raw; delete Array.prototype.toLocaleString; delete String.prototype.normalize;
            // They ask an iterator for its next value until it ends; one made of the engine's own functions never does, and runs no statement.
            const iterator = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]()));
            for (const name of Object.getOwnPropertyNames(iterator)) delete iterator[name];
            for (const name of ['union', 'intersection', 'difference', 'symmetricDifference', 'isSubsetOf', 'isSupersetOf', 'isDisjointFrom']) delete Set.prototype[name];
            const limit = 1e6;
            const own = f => Function.prototype.call.bind(f);
            const bound = (length, what) => { if (!(length <= limit)) throw new RangeError(what + ' would make a text of ' + length + ' characters; at most ' + limit + ' are allowed'); };
            const { repeat, padStart, padEnd, replace, replaceAll } = String.prototype;
            const [repeatOf, padStartOf, padEndOf, replaceOf, replaceAllOf] = [own(repeat), own(padStart), own(padEnd), own(replace), own(replaceAll)];
            const define = (target, name, value) => Object.defineProperty(target, name, { value, writable: true, configurable: true });
            // What is bounded is made a text or a number once: an object could answer otherwise when it is asked again.
            const replaced = (of, text, pattern, replacement, every) => {
                if (typeof replacement === 'function') return of(text, pattern, replacement);
                const r = `${replacement}`;
                const each = r.length + (r.includes('$`') || r.includes("$'") ? text.length : 0);
                bound(text.length + each * (every || typeof pattern === 'object' ? text.length + 1 : 1), 'replace');
                return of(text, pattern, r);
            };
            define(String.prototype, 'repeat', function (n) { const s = `${this}`, times = +n; bound(s.length * times, 'repeat'); return repeatOf(s, times); });
            define(String.prototype, 'padStart', function (n, fill) { const length = +n; bound(length, 'padStart'); return padStartOf(this, length, fill); });
            define(String.prototype, 'padEnd', function (n, fill) { const length = +n; bound(length, 'padEnd'); return padEndOf(this, length, fill); });
            define(String.prototype, 'replace', function (p, r) { return replaced(replaceOf, `${this}`, p, r, false); });
            define(String.prototype, 'replaceAll', function (p, r) { return replaced(replaceAllOf, `${this}`, p, r, true); });
            for (const name of ['toSorted', 'toReversed', 'toSpliced', 'with']) {
                const of = own(Array.prototype[name]);
                define(Array.prototype, name, function (...rest) {
                    if (!Array.isArray(this) || this.length > limit) throw new RangeError(name + ' takes a list of at most ' + limit + ' items');
                    return of(this, ...rest);
                });
            }
            define(String.prototype, 'concat', function (...rest) {
                let text = `${this}`;
                for (let i = 0; i < rest.length; i++) { const part = `${rest[i]}`; bound(text.length + part.length, 'concat'); text += part; }
                return text;
            });
            const join = (list, separator) => {
                const between = separator === undefined ? ',' : `${separator}`;
                let text = '';
                for (let i = 0; i < list.length; i++) {
                    const part = list[i] === undefined || list[i] === null ? '' : `${list[i]}`;
                    bound(text.length + part.length + between.length, 'join');
                    text += i > 0 ? between + part : part;
                }
                return text;
            };
            define(Array.prototype, 'join', function (separator) { return join(this, separator); });
            define(Array.prototype, 'toString', function () { return join(this); });
        })();
        """);

    private readonly Dictionary<string, Prepared<Script>> _prepared = new(StringComparer.Ordinal);

    // The first script of a process compiles the engine; that is not the script's time.
    static JavaScriptExpressions()
    {
        using var engine = new Engine();
        engine.Execute(Prelude);
    }

    /// <exception cref="ExpressionException">It does not parse, throws, or goes past a limit.</exception>
    public JsonNode? Evaluate(string source, ScriptContext context)
    {
        // The engine throws a dozen unrelated types (syntax, script error, time, memory, recursion); for the workflow all are one thing.
        try
        {
            var script = Prepare(source);
            using var engine = new Engine(options =>
            {
                options.Constraint(new TimeConstraint()).LimitMemory(32 << 20).LimitRecursion(200)
                    .RegexTimeoutInterval(TimeSpan.FromMilliseconds(200)).MaxArraySize(100_000).Culture(CultureInfo.InvariantCulture);
                options.Constraints.StackOverflowGuard = true;
                options.Host.StringCompilationAllowed = false;
            });
            engine.Evaluate(Prelude);
            var host = new Host(engine, definition, state, context);
            host.Define(source);
            var result = host.FromScript(engine.Evaluate(script));
            host.KeepVariables();
            return result;
        }
        catch (Exception e) when (e is not ExpressionException)
        {
            throw new ExpressionException(e.Message, e);
        }
    }

    private sealed class TimeConstraint : Constraint
    {
        private readonly ProcessorTime _time = new();

        public override void Reset() => _time.Restart();

        public override void Check() => _time.Check();
    }

    private Prepared<Script> Prepare(string source)
    {
        if (source.Length > MaxSourceLength)
        {
            throw new ExpressionException($"the script has {source.Length} characters; at most {MaxSourceLength} are read");
        }

        if (!_prepared.TryGetValue(source, out var script))
        {
            script = Engine.PrepareScript(source, options: new ScriptPreparationOptions
            {
                ParsingOptions = new ScriptParsingOptions { AllowReturnOutsideFunction = true, RegexTimeout = TimeSpan.FromMilliseconds(200) },

                // Folding would build long texts before any limit holds.
                FoldConstants = false,
            });
            Check(script.Program!);
            _prepared[source] = script;
        }

        return script;
    }

    // One multiplication of large BigInts, or one long template, runs between two checks of the limits.
    private static void Check(Node root)
    {
        var open = new Stack<Node>([root]);
        while (open.TryPop(out var node))
        {
            switch (node)
            {
                case BigIntLiteral:
                    throw new ExpressionException("BigInt is not available");
                case TemplateLiteral { Expressions.Count: > MaxTemplateParts }:
                    throw new ExpressionException($"a template has more than {MaxTemplateParts} parts");
            }

            foreach (var child in node.ChildNodes)
            {
                if (child is not null)
                {
                    open.Push(child);
                }
            }
        }
    }

    [GeneratedRegex(@"\bget(\w+?)From(\w+)", RegexOptions.CultureInvariant)]
    private static partial Regex OutputAccessor();

    private static string Capital(string name) => char.ToUpperInvariant(name[0]) + name[1..];

    // "my-activity 1" is MyActivity1, as Elsa names its accessors.
    private static string Pascal(string name) =>
        string.Concat(name.Split(['_', '-', ' '], StringSplitOptions.RemoveEmptyEntries).Select(Capital));

    /// <summary>The functions a script has, bound to one activity instance.</summary>
    private sealed class Host(Engine engine, WorkflowDefinition definition, WorkflowState state, ScriptContext context)
    {
        private readonly JsonParser _parser = new(engine);
        private readonly Dictionary<string, (JsValue Value, string Json)> _handedOut = new(StringComparer.Ordinal);

        public void Define(string source)
        {
            Function("getVariable", args => ToScript(Get(Text(args, 0))));
            Function("setVariable", args => Set(Text(args, 0), Argument(args, 1)));
            Function("getInput", args => ToScript(state.Inputs.GetValueOrDefault(Text(args, 0))));
            Function("getOutputFrom", args => ToScript(OutputOf(a => a.Id == Text(args, 0) || a.Name == Text(args, 0), Text(args, 1) is { Length: > 0 } name ? name : "result")));
            Function("getLastResult", _ => ToScript(state.LastResult));
            Function("getCorrelationId", _ => Nullable(state.CorrelationId));
            Function("setCorrelationId", args => Nothing(state.CorrelationId = Argument(args, 0).IsNull() ? null : Text(args, 0)));
            Function("getWorkflowInstanceId", _ => state.InstanceId);
            Function("getWorkflowInstanceName", _ => Nullable(state.Name));
            Function("setWorkflowInstanceName", args => Nothing(state.Name = Text(args, 0)));
            Function("getWorkflowDefinitionId", _ => definition.DefinitionId);
            Function("getWorkflowDefinitionVersion", _ => definition.Version);
            Function("getWorkflowDefinitionVersionId", _ => definition.VersionId);
            Function("isNullOrEmpty", args => Text(args, 0).Length == 0);
            Function("isNullOrWhiteSpace", args => string.IsNullOrWhiteSpace(Text(args, 0)));
            Function("toJson", args => FromScript(Argument(args, 0))?.ToJsonString() ?? "null");
            Function("parseGuid", args => Guid.Parse(Text(args, 0)).ToString());
            Function("newGuid", _ => NewGuid().ToString());
            Function("newGuidString", _ => NewGuid().ToString());
            Function("newShortGuid", _ => Convert.ToBase64String(NewGuid().ToByteArray()).Replace("/", "", StringComparison.Ordinal).Replace("+", "", StringComparison.Ordinal).TrimEnd('='));
            Function("bytesFromString", args => ToScript(new JsonArray([.. Encoding.UTF8.GetBytes(Text(args, 0)).Select(b => (JsonNode)(int)b)])));
            Function("bytesToString", args => Encoding.UTF8.GetString([.. (FromScript(Argument(args, 0)) as JsonArray ?? []).Select(b => (byte)b!.GetValue<long>())]));
            if (context.Outcomes is { } outcomes)
            {
                Function("setOutcome", args => Outcomes([Text(args, 0)]));
                Function("setOutcomes", args => Outcomes((FromScript(Argument(args, 0)) as JsonArray ?? []).Select(o => o.AsText() ?? "")));

                JsValue Outcomes(IEnumerable<string> names)
                {
                    outcomes.Clear();
                    outcomes.AddRange(names);
                    return JsValue.Undefined;
                }
            }

            ((ObjectInstance)engine.GetValue("JSON")).Set("stringify", Clr("stringify", Stringify));
            DefineVariables(source);
            DefineAccessors(source);
        }

        /// <summary>What a script changed inside a value that it got from <c>variables</c> is kept, as Elsa does.</summary>
        public void KeepVariables()
        {
            foreach (var (name, (value, before)) in _handedOut)
            {
                var after = FromScript(value);
                if ((after?.ToJsonString() ?? "null") != before)
                {
                    context.Scope.TrySetByName(name, after);
                }
            }
        }

        public JsonNode? FromScript(JsValue value)
        {
            var budget = MaxResultLength;
            return FromScript(value, 0, ref budget);
        }

        private static JsonNode? FromScript(JsValue value, int depth, ref int budget)
        {
            RuntimeHelpers.EnsureSufficientExecutionStack();
            if (depth > JsonMembers.MaxValueDepth)
            {
                throw new ExpressionException($"a value is nested more than {JsonMembers.MaxValueDepth} levels deep");
            }

            Spend(ref budget, 8);
            if (value.IsBoolean())
            {
                return value.AsBoolean();
            }

            if (value.IsNumber())
            {
                var number = value.AsNumber();
                return number == Math.Floor(number) && Math.Abs(number) < 1e15 ? JsonValue.Create((long)number)
                    : double.IsFinite(number) ? JsonValue.Create(number) : null;
            }

            if (value.IsString())
            {
                var text = value.ToString();
                Spend(ref budget, text.Length);
                return text;
            }

            if (value is JsArray array)
            {
                var list = new JsonArray();
                for (var i = 0u; i < array.Length; i++)
                {
                    list.Add(FromScript(array.Get(i), depth + 1, ref budget));
                }

                return list;
            }

            if (value is not ObjectInstance instance || value is Jint.Native.Function.Function)
            {
                return null;
            }

            var result = new JsonObject();
            foreach (var (key, property) in instance.GetOwnProperties())
            {
                if (property.Enumerable && key.IsString())
                {
                    var member = instance.Get(key);
                    if (!member.IsUndefined() && member is not Jint.Native.Function.Function)
                    {
                        Spend(ref budget, key.ToString().Length);
                        result[key.ToString()] = FromScript(member, depth + 1, ref budget);
                    }
                }
            }

            return result;
        }

        private static void Spend(ref int budget, int length)
        {
            budget -= length;
            if (budget < 0)
            {
                throw new ExpressionException($"a value has more than {MaxResultLength} characters");
            }
        }

        private JsValue Stringify(JsValue[] args)
        {
            if (!Argument(args, 1).IsNull() && !Argument(args, 1).IsUndefined())
            {
                throw new ExpressionException("JSON.stringify with a replacer is not available");
            }

            if (Argument(args, 0).IsUndefined() || Argument(args, 0) is Jint.Native.Function.Function)
            {
                return JsValue.Undefined;
            }

            var indent = Argument(args, 2).IsNumber() ? Math.Clamp((int)Argument(args, 2).AsNumber(), 0, 10) : 0;
            return FromScript(Argument(args, 0))?.ToJsonString(new JsonSerializerOptions
            {
                WriteIndented = indent > 0,
                IndentSize = Math.Max(indent, 1),
                Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
            }) ?? "null";
        }

        private void DefineVariables(string source)
        {
            var variables = new JsObject(engine);
            engine.SetValue("variables", variables);
            foreach (var name in context.Scope.Names())
            {
                if (source.Contains("variables", StringComparison.Ordinal))
                {
                    var getter = Clr(name, _ => HandOut(name));
                    var setter = Clr(name, args => Set(name, Argument(args, 0)));
                    variables.DefineOwnProperty(name, new Jint.Runtime.Descriptors.GetSetPropertyDescriptor(getter, setter, enumerable: true, configurable: true));
                }

                FunctionIfNamed(source, "get" + Pascal(name), _ => ToScript(Get(name)));
                FunctionIfNamed(source, "set" + Pascal(name), args => Set(name, Argument(args, 0)));
            }

            foreach (var input in definition.Inputs)
            {
                FunctionIfNamed(source, "get" + input.Name, _ => ToScript(state.Inputs.GetValueOrDefault(input.Name)));
            }
        }

        private void DefineAccessors(string source)
        {
            foreach (Match match in OutputAccessor().Matches(source))
            {
                var (output, activity) = (match.Groups[1].Value, match.Groups[2].Value);
                if (definition.Root.SelfAndDescendants().Any(a => a.Name.Length > 0 && Pascal(a.Name) == activity))
                {
                    Function(match.Value, _ => ToScript(OutputOf(a => a.Name.Length > 0 && Pascal(a.Name) == activity, output)));
                }
            }
        }

        private JsonNode? OutputOf(Func<WorkflowActivity, bool> isMeant, string output)
        {
            foreach (var activity in definition.Root.SelfAndDescendants().Where(isMeant))
            {
                if (context.Scope.OutputsOf(activity.Id) is { } outputs)
                {
                    return outputs.FirstOrDefault(o => string.Equals(o.Key, output, StringComparison.OrdinalIgnoreCase)).Value;
                }
            }

            return null;
        }

        private JsonNode? Get(string name) => context.Scope.TryGetByName(name, out var value) ? value : null;

        private JsValue Set(string name, JsValue value)
        {
            _handedOut.Remove(name);
            return context.Scope.TrySetByName(name, FromScript(value)) ? JsValue.Undefined
                : throw new ExpressionException($"there is no variable '{name}'{(Spelling.Nearest(name, context.Scope.Names()) is { } near ? $"; did you mean '{near}'?" : "")}");
        }

        private JsValue HandOut(string name)
        {
            if (!_handedOut.TryGetValue(name, out var given))
            {
                var value = Get(name);
                given = _handedOut[name] = (ToScript(value), value?.ToJsonString() ?? "null");
            }

            return given.Value;
        }

        private Guid NewGuid() => Identifiers.Derive(string.Create(CultureInfo.InvariantCulture, $"{state.InstanceId}/id/{context.Instance.Id}/{++state.NumIdentifiers}"));

        private void Function(string name, Func<JsValue[], JsValue> body) => engine.SetValue(name, Clr(name, body));

        private void FunctionIfNamed(string source, string name, Func<JsValue[], JsValue> body)
        {
            if (source.Contains(name, StringComparison.Ordinal))
            {
                Function(name, body);
            }
        }

        private ClrFunction Clr(string name, Func<JsValue[], JsValue> body) => new(engine, name, (_, args) => body([.. args]));

        private JsValue ToScript(JsonNode? node) => node is null ? JsValue.Null : _parser.Parse(node.ToJsonString());

        private static JsValue Nothing(object? _) => JsValue.Undefined;

        private static JsValue Nullable(string? text) => text is null ? JsValue.Null : (JsValue)text;

        private static JsValue Argument(JsValue[] args, int index) => index < args.Length ? args[index] : JsValue.Undefined;

        private static string Text(JsValue[] args, int index) => Argument(args, index) is var value && (value.IsNull() || value.IsUndefined()) ? "" : value.ToString();
    }
}
