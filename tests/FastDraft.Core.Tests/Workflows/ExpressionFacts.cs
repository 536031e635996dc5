using System.Diagnostics;
using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using static FastDraft.Core.Tests.Workflows.WorkflowRuns;
using static FastDraft.Core.Tests.Workflows.WorkflowText;

namespace FastDraft.Core.Tests.Workflows;

/// <summary>What a definition says is data from outside: no expression runs on, eats memory, or reaches out of its engine.</summary>
public sealed class ExpressionFacts
{
    public static TheoryData<string, string> Escapes() => new()
    {
        // Time.
        { "JavaScript", "while (true) {}" },
        { "JavaScript", "for (;;) ;" },
        { "JavaScript", "do { var x = [1, 2, 3].map(y => y * 2) } while (true)" },
        { "JavaScript", "/^(a+)+$/.test('a'.repeat(40) + '!')" },
        { "JavaScript", "'x'.repeat(200000).replace(/(x+x+)+y/, '')" },
        { "JavaScript", "[...{ *[Symbol.iterator]() { while (true) yield 1 } }]" },
        { "JavaScript", "new Map({ [Symbol.iterator]() { return { next: () => ({ value: [1, 1], done: false }) } } })" },
        { "JavaScript", "Array.from({ length: 1e15 })" },
        { "JavaScript", "Array.prototype.fill.call({ length: 1e15 }, 1)" },
        { "JavaScript", "Array.prototype.reverse.call({ length: 1e15 })" },
        { "JavaScript", "[3, 1, 2].sort(() => { while (true) ; })" },


        // Loops inside the engine's own functions, which run no statement.
        { "JavaScript", "new Set({ [Symbol.iterator]: () => ({ next: Object.bind(null, { done: false, value: 1 }) }) })" },
        { "JavaScript", "[...{ [Symbol.iterator]: () => ({ next: Object.bind(null, { done: false, value: 1 }) }) }]" },
        { "JavaScript", "Math.max(...{ [Symbol.iterator]: () => ({ next: Object.bind(null, { done: false, value: 1 }) }) })" },
        { "JavaScript", "new Map({ [Symbol.iterator]: () => ({ next: Object.bind(null, { done: false, value: [1, 1] }) }) })" },
        { "JavaScript", "Object.fromEntries({ [Symbol.iterator]: () => ({ next: Object.bind(null, { done: false, value: [1, 1] }) }) })" },
        { "JavaScript", "Array.from({ [Symbol.iterator]: () => ({ next: Object.bind(null, { done: false, value: 1 }) }) }, Boolean)" },
        { "JavaScript", "Iterator.from({ next: Object.bind(null, { done: false, value: 1 }) }).every(Boolean)" },
        { "JavaScript", "Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]())).some.call({ next: Object }, Boolean)" },
        { "JavaScript", "(function* () {})().forEach.call({ next: Object }, Boolean)" },
        { "JavaScript", "new Set([1]).union({ size: 1, has: Boolean, keys: () => ({ next: Object }) })" },
        { "JavaScript", "new Set([1]).symmetricDifference({ size: 1, has: Boolean, keys: () => ({ next: Object }) })" },
        { "JavaScript", "RegExp.prototype[Symbol.replace].call({ exec: Object.bind(null, { 0: 'a', length: 1, index: 0 }), flags: 'g', global: true, lastIndex: 0 }, 'x', '')" },
        { "JavaScript", "const r = /a/g; r.exec = Array; 'x'.match(r)" },
        { "JavaScript", "[...Array.prototype.keys.call({ length: 1e15 })]" },
        { "JavaScript", "let s = new Set([1]); s.forEach(x => { s.delete(x); s.add(x) })" },
        { "JavaScript", "[].concat({ length: 1e15, [Symbol.isConcatSpreadable]: true }); throw 1" },
        { "JavaScript", "const [...all] = { [Symbol.iterator]: () => ({ next: Object.bind(null, { done: false, value: 1 }) }) }" },
        { "JavaScript", "Array.prototype.forEach.call({ length: 1e15 }, Boolean); throw 1" },
        { "JavaScript", "Array.prototype.every.call({ length: 1e15 }, Boolean); throw 1" },
        { "JavaScript", "Array.prototype.some.call({ length: 1e15 }, Boolean); throw 1" },
        { "JavaScript", "Array.prototype.map.call({ length: 1e15 }, Boolean); throw 1" },
        { "JavaScript", "Array.prototype.filter.call({ length: 1e15 }, Boolean); throw 1" },
        { "JavaScript", "Array.prototype.reduce.call({ length: 1e15 }, Boolean, 1); throw 1" },
        { "JavaScript", "Array.prototype.find.call({ length: 1e15 }, Boolean); throw 1" },
        { "JavaScript", "Array.prototype.findLast.call({ length: 1e15 }, Boolean); throw 1" },
        { "JavaScript", "Array.prototype.includes.call({ length: 1e15 }, 1); throw 1" },
        { "JavaScript", "Array.prototype.lastIndexOf.call({ length: 1e15 }, 1); throw 1" },
        { "JavaScript", "Array.prototype.slice.call({ length: 1e15 }); throw 1" },
        { "JavaScript", "Array.prototype.splice.call({ length: 1e15 }, 0, 1); throw 1" },
        { "JavaScript", "Array.prototype.shift.call({ length: 1e15 }); throw 1" },
        { "JavaScript", "Array.prototype.unshift.call({ length: 1e15 }, 1); throw 1" },
        { "JavaScript", "Array.prototype.copyWithin.call({ length: 1e15 }, 1, 0); throw 1" },
        { "JavaScript", "Array.prototype.flat.call({ length: 1e15 }); throw 1" },
        { "JavaScript", "Array.prototype.flatMap.call({ length: 1e15 }, Boolean); throw 1" },
        { "JavaScript", "Array.prototype.sort.call({ length: 1e15 }); throw 1" },
        { "JavaScript", "Array.prototype.toSorted.call({ length: 1e9 })" },
        { "JavaScript", "Array.prototype.toReversed.call({ length: 1e9 })" },
        { "JavaScript", "Array.prototype.with.call({ length: 1e9 }, 0, 1)" },
        { "JavaScript", "Array.prototype.join.call({ length: 1e15 }, ''); throw 1" },
        { "JavaScript", "Boolean.apply(null, { length: 1e9 }); throw 1" },
        { "JavaScript", "let a = Array(100000).fill(1); a.sort(Object.bind(null, 1)); while (true) a.sort()" },
        { "JavaScript", "let a = Array(99999).fill('x'.repeat(1000)); while (true) a.includes('y')" },
        { "JavaScript", "new RegExp('(a{1,9999}){1,9999}').test('a'.repeat(1000000)); throw 1" },
        { "JavaScript", "'x'.repeat(1000000).split(''); throw 1" },
        { "JavaScript", "while (true) 'x'.repeat(1000000).replaceAll('x', Boolean)" },

        // Memory.
        { "JavaScript", "let a = [1]; while (true) a = a.concat(a)" },
        { "JavaScript", "let a = []; while (true) a.push('x'.repeat(1000000))" },
        { "JavaScript", "let s = 'x'; while (true) s += s" },
        { "JavaScript", "let s = 'x'; while (true) s = `${s}${s}`" },
        { "JavaScript", "'x'.repeat(1e9)" },
        { "JavaScript", "''.padStart(1e9, 'ab')" },
        { "JavaScript", "let i = 0; ''.padStart({ valueOf: () => i++ ? 1e9 : 1 }).repeat(2e6)" },
        { "JavaScript", "let i = 0; 'x'.repeat({ valueOf: () => i++ ? 1e9 : 1 }).repeat(2e6)" },
        { "JavaScript", "let i = 0; 'x'.repeat(1000).replaceAll('x', { toString: () => i++ ? 'y'.repeat(1e6) : 'y' }).repeat(2e6)" },
        { "JavaScript", "const a = []; a.length = 4e9; a.toSorted()" },
        { "JavaScript", "Array.prototype.toSpliced.call({ length: 1e9 }, 0, 0)" },
        { "JavaScript", "Array(1e9)" },
        { "JavaScript", "new Array(1e9).fill(0)" },
        { "JavaScript", "const a = []; a.length = 4294967295; a.join('x')" },
        { "JavaScript", "const a = []; a[4294967294] = 1; a" },
        { "JavaScript", "JSON.parse('['.repeat(900000))" },
        { "JavaScript", "JSON.parse('[' + '[],'.repeat(300000) + '[]]')" },
        { "JavaScript", "let o = {}; for (let i = 0; ; i++) o['k' + i] = 'x'.repeat(1000)" },
        { "JavaScript", "2n ** 100000000n" },
        { "JavaScript", "let o = { a: 1 }; o.self = o; o" },
        { "JavaScript", "let o = {}; for (let i = 0; i < 5000; i++) o = { o }; o" },

        // Depth.
        { "JavaScript", "let f = () => f(); f()" },
        { "JavaScript", "let o = { get x() { return this.x } }; o.x" },
        { "JavaScript", "let o = { toString() { return '' + this } }; '' + o" },
        { "JavaScript", "'('.repeat(1)" + "+((((1" },

        // Out of the engine.
        { "JavaScript", "({}).constructor.constructor('return 1')()" },
        { "JavaScript", "(() => {}).constructor('return this')()" },
        { "JavaScript", "(function* () {}).constructor('yield 1')()" },
        { "JavaScript", "(async () => {}).constructor('return 1')()" },
        { "JavaScript", "eval('1')" },
        { "JavaScript", "new Function('return 1')()" },
        { "JavaScript", "getVariable.GetType()" },
        { "JavaScript", "getVariable('X').GetType().Assembly" },
        { "JavaScript", "System.IO.File.ReadAllText('/etc/passwd')" },
        { "JavaScript", "importNamespace('System')" },
        { "JavaScript", "clr.System" },
        { "JavaScript", "require('fs')" },
        { "JavaScript", "import('fs').then(x => x)" },
        { "JavaScript", "import fs from 'fs'" },
        { "JavaScript", "fetch('http://127.0.0.1')" },
        { "JavaScript", "new XMLHttpRequest()" },
        { "JavaScript", "new WebAssembly.Module()" },
        { "JavaScript", "new SharedArrayBuffer(1e9)" },
        { "JavaScript", "new Uint8Array(1e9)" },
        { "JavaScript", "process.exit(1)" },
        { "JavaScript", "new Date()" },
        { "JavaScript", "Math.random()" },

        { "Liquid", "{% for i in (1..1000000000) %}{% for j in (1..1000000000) %}{% endfor %}{% endfor %}" },
        { "Liquid", "{% for i in (1..9000) %}{% for j in (1..9000) %}x{% endfor %}{% endfor %}" },
        { "Liquid", "{% assign s = 'xxxxxxxxxx' %}{% for i in (1..100) %}{% assign s = s | append: s %}{% endfor %}{{ s }}" },
        { "Liquid", "{% assign s = 'x,x,x,x,x,x,x,x' %}{% for i in (1..100) %}{% assign s = s | replace: 'x', s %}{% endfor %}" },
        { "Liquid", "{% assign n = 9999999999 %}{% for i in (1..60) %}{% assign n = n | times: n %}{% endfor %}{{ n }}" },
        { "Liquid", "{% assign a = '1,2' | split: ',' %}{% for i in (1..60) %}{% assign a = a | concat: a %}{% endfor %}{{ a | size }}" },
        { "Liquid", "{% assign s = 'xx' %}{% for i in (1..60) %}{% capture s %}{{ s }}{{ s }}{% endcapture %}{% endfor %}{{ s }}" },
        { "Liquid", "{{ (1..1000000000) | join: 'x' }}" },
        { "Liquid", "{% assign a = (1..1000000000) | reverse %}{{ a | size }}" },
        { "Liquid", "{% assign a = (1..1000000000) | sort %}{{ a | first }}" },
        { "Liquid", "{% assign a = (1..1000000000) | map: 'x' %}{{ a | size }}" },
        { "Liquid", "{% assign a = (1..1000000000) | uniq %}{{ a | size }}" },
        { "Liquid", "{% include '/etc/passwd' %}" },
        { "Liquid", "{% render '/etc/passwd' %}" },
        { "Liquid", "{% include" },

        { "CSharp", "System.IO.File.ReadAllText(\"/etc/passwd\")" },
        { "CSharp", "typeof(string).Assembly.FullName" },
        { "CSharp", "Variables.X.GetType()" },
        { "CSharp", "\"\".GetType().Assembly" },
        { "CSharp", "new System.Net.WebClient().DownloadString(\"http://127.0.0.1\")" },
        { "CSharp", "Environment.Exit(1)" },
        { "CSharp", "while (true) {}" },
        { "CSharp", "((Func<int>)(() => 1))()" },
        { "CSharp", "9223372036854775807 + 1" },
        { "CSharp", "1 / 0" },
        { "CSharp", "$\"{1:D9999999}\"" },
        { "CSharp", "Variables.Missing" },
    };

    [Theory]
    [MemberData(nameof(Escapes))]
    public void An_expression_that_runs_away_or_reaches_out_is_an_incident_within_a_second(string language, string source) => AssertIncident(language, source);

    // A replay would give another text.
    [Theory]
    [InlineData("{{ date.now }}")]
    [InlineData("{{ math.random 1 1000000 }}")]
    [InlineData("{{ math.uuid }}")]
    [InlineData("{{ 'now' | date: '%Y' }}")]
    public void Templates_know_no_time_and_no_chance(string source)
    {
        var (state, effects) = Run(Workflow(Node("w", "WriteLine", ("text", Expression("Liquid", source)))));

        Assert.True(state.Status is WorkflowStatus.Faulted || effects.OfType<WriteLine>().All(l => l.Text.Length == 0), string.Join("|", effects.OfType<WriteLine>().Select(l => l.Text)));
    }

    // What is nested in the source itself is a matter for the parsers.
    [Theory]
    [InlineData("JavaScript", "(", "1", ")", 30_000)]
    [InlineData("JavaScript", "[", "", "]", 30_000)]
    [InlineData("JavaScript", "-", "1", "", 60_000)]
    [InlineData("JavaScript", "x=>", "1", "", 20_000)]
    [InlineData("JavaScript", "if(1)", ";", "", 12_000)]
    [InlineData("JavaScript", "{", "", "}", 30_000)]
    [InlineData("JavaScript", "a?1:", "1", "", 5_000)]
    [InlineData("JavaScript", "`${", "1", "}`", 12_000)]
    [InlineData("Liquid", "{% if true %}", "x", "{% endif %}", 20_000)]
    [InlineData("Liquid", "{% for i in (1..2) %}", "x", "{% endfor %}", 15_000)]
    [InlineData("CSharp", "(", "1", ")", 30_000)]
    [InlineData("CSharp", "!", "true", "", 60_000)]
    [InlineData("CSharp", "1??", "1", "", 20_000)]
    [InlineData("CSharp", "true?1:", "1", "", 9_000)]
    [InlineData("CSharp", "$\"{", "1", "}\"", 12_000)]
    public void An_expression_nested_without_end_is_an_incident(string language, string open, string inner, string close, int depth) =>
        AssertIncident(language, string.Concat(Enumerable.Repeat(open, depth)) + inner + string.Concat(Enumerable.Repeat(close, depth)));

    [Fact]
    public void A_text_that_no_limit_breaks_is_evaluated_after_all_of_this() =>
        Assert.Equal(["1"], Run(Workflow(Node("w", "WriteLine", ("text", Script("'' + variables.X"))))).Lines());

    [Theory]
    [InlineData("'ab'.repeat(2).padStart(6, '-').padEnd(8).replace('a', 'c').replaceAll(/b/g, x => x + '$').replaceAll('b', '$&!')", "--cb!$ab!$  ")]
    [InlineData("[3, 1, 2].toSorted().toReversed().with(0, 9).toSpliced(1, 1, 'x').join('/') + [1, [2]].toString()", "9/x/11,2")]
    [InlineData("[...new Set([1, 1, 2])].map(x => x * 2).concat([5]).filter(x => x > 2).reduce((a, b) => a + b)", "9")]
    [InlineData("const { a, ...rest } = { a: 1, b: 2 }; return JSON.stringify(rest) + [...'xy'].entries().next().value;", "{\"b\":2}0,x")]
    public void What_scripts_ordinarily_do_works(string source, string line) =>
        Assert.Equal([line], Run(Workflow(Node("w", "WriteLine", ("text", Script(source))))).Lines());

    [Theory]
    [InlineData("Variables.X + 1", "2")]
    [InlineData("$\"{Variables.X} of {Input.Get<string>(\"Who\")}\"", "1 of ")]
    [InlineData("Variables.X > 0 && true ? \"yes\" : \"no\"", "yes")]
    [InlineData("return Variable.Get<int>(\"X\") * 2.5;", "2.5")]
    [InlineData("7 / 2 * 2 + 7 % 2 - -1", "8")]
    [InlineData("Variables.L == null || Variables.L.Count > 3 ? \"none\" : Variables.L.Count", "none")]
    [InlineData("$@\"{1.5:0.00} \"\"{{x}}\"\" {true}\"", "1.50 \"{x}\" True")]
    [InlineData("(Variables.L ?? \"none\").ToString().ToUpper()", "NONE")]
    public void The_part_of_CSharp_that_people_write_into_fields_is_evaluated(string source, string line) =>
        Assert.Equal([line], Run(Workflow(Node("w", "WriteLine", ("text", Expression("CSharp", source))))).Lines());

    // The engines stop within a second of their own time; a machine that does much else gives it to them late. They work on the thread that asks: what others
    // allocate meanwhile is not theirs.
    private static void AssertIncident(string language, string source)
    {
        var started = Stopwatch.GetTimestamp();
        var before = GC.GetAllocatedBytesForCurrentThread();
        var (state, _) = Run(Workflow(Sequence("sq", Node("w", "WriteLine", ("text", Expression(language, source))), Line("never"))));

        Assert.True(Stopwatch.GetElapsedTime(started) < TimeSpan.FromSeconds(15), $"It took {Stopwatch.GetElapsedTime(started)}.");
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 2L << 30, "It allocated gigabytes.");
        Assert.Equal(WorkflowStatus.Faulted, state.Status);
        Assert.Equal("w", Assert.Single(state.Incidents).ActivityId);
        Assert.StartsWith("Failed to evaluate activity input 'Text'", state.Incident, StringComparison.Ordinal);
    }
}
