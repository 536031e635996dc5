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

        // Memory.
        { "JavaScript", "let a = [1]; while (true) a = a.concat(a)" },
        { "JavaScript", "let a = []; while (true) a.push('x'.repeat(1000000))" },
        { "JavaScript", "let s = 'x'; while (true) s += s" },
        { "JavaScript", "let s = 'x'; while (true) s = `${s}${s}`" },
        { "JavaScript", "'x'.repeat(1e9)" },
        { "JavaScript", "''.padStart(1e9, 'ab')" },
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

    // What is nested in the source itself is a matter for the parsers.
    [Theory]
    [InlineData("JavaScript", "(", "1", ")", 30_000)]
    [InlineData("JavaScript", "[", "", "]", 30_000)]
    [InlineData("JavaScript", "-", "1", "", 60_000)]
    [InlineData("JavaScript", "x=>", "1", "", 20_000)]
    [InlineData("JavaScript", "if(1)", ";", "", 12_000)]
    [InlineData("JavaScript", "{", "", "}", 30_000)]
    [InlineData("JavaScript", "a?1:", "1", "", 15_000)]
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

    // The engines stop within a second of their own time; a machine that does much else gives it to them late.
    private static void AssertIncident(string language, string source)
    {
        var started = Stopwatch.GetTimestamp();
        var before = GC.GetTotalAllocatedBytes();
        var (state, _) = Run(Workflow(Sequence("sq", Node("w", "WriteLine", ("text", Expression(language, source))), Line("never"))));

        Assert.True(Stopwatch.GetElapsedTime(started) < TimeSpan.FromSeconds(5), $"It took {Stopwatch.GetElapsedTime(started)}.");
        Assert.True(GC.GetTotalAllocatedBytes() - before < 2L << 30, "It allocated gigabytes.");
        Assert.Equal(WorkflowStatus.Faulted, state.Status);
        Assert.Equal("w", Assert.Single(state.Incidents).ActivityId);
        Assert.StartsWith("Failed to evaluate activity input 'Text'", state.Incident, StringComparison.Ordinal);
    }
}
