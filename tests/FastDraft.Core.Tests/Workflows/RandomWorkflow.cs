using System.Globalization;
using System.Text.Json.Nodes;
using static FastDraft.Core.Tests.Workflows.WorkflowText;

namespace FastDraft.Core.Tests.Workflows;

/// <summary>
/// A definition made from a tape of choices: the same tape gives the same one, and a shorter tape, or one of smaller numbers, a simpler
/// one. Every loop in it ends: it goes over a list, or while X, which each round raises, is small.
/// </summary>
internal sealed class RandomWorkflow(byte[] tape)
{
    private const int MaxDepth = 3;
    private const int MaxActivities = 14;

    private int _at;
    private int _numActivities;

    public string Build()
    {
        var continues = Choose(3) == 2;
        return Workflow(Any(0), continues);
    }

    /// <summary>0 past the end of the tape.</summary>
    private int Choose(int count) => _at < tape.Length ? tape[_at++] % count : 0;

    private string Id(string kind) => string.Create(CultureInfo.InvariantCulture, $"{kind}{++_numActivities}");

    private JsonObject Any(int depth)
    {
        var isLeaf = depth >= MaxDepth || _numActivities >= MaxActivities;
        return Choose(isLeaf ? 13 : 26) switch
        {
            0 => Line(Id("line")),
            1 => Node(Id("delay"), "Delay"),
            2 => Node(Id("event"), "Event", ("eventName", "e")),
            3 => Typed(Node(Id("gate"), "Gate", ("title", "?")), "FastDraft.Gate"),
            4 or 5 => Stage(),
            6 => Node(Id("child"), "ExecuteWorkflow", ("workflowDefinitionId", "c"), ("waitForCompletion", true)),
            7 => Node(Id("child"), "DispatchWorkflow", ("workflowDefinitionId", "c")),
            8 => Raise(),
            9 => Node(Id("publish"), "PublishEvent", ("eventName", "e")),
            10 => Node(Id("correlate"), "Correlate", ("correlationId", "k")),
            11 => Node(Id("fault"), "Fault", ("message", "boom")),
            12 => Choose(5) switch
            {
                0 => Node(Id("end"), "End"),
                1 => Node(Id("break"), "Break"),
                2 => Node(Id("complete"), "Complete", ("outcomes", "Good")),
                3 => Node(Id("finish"), "Finish"),
                _ => Line(Id("line")),
            },
            13 => Sequence(Id("sequence"), Many(depth)),
            14 or 15 or 16 or 17 => Flow(depth),
            18 => Node(Id("if"), "If", ("condition", Choose(2) == 0), ("then", Any(depth + 1)), ("else", Choose(2) == 0 ? null : Any(depth + 1))),
            19 => Node(Id("switch"), "Switch", ("mode", Choose(2) == 0 ? "MatchFirst" : "MatchAny"),
                ("cases", new JsonArray([.. Many(depth).Select((a, i) => LiteralCase("c" + i, a))])), ("default", Any(depth + 1))),
            20 => Node(Id("each"), "ForEach", ("items", Items()), ("body", Any(depth + 1))),
            21 => Node(Id("parallelEach"), "ParallelForEach", ("items", Items()), ("body", Any(depth + 1))),
            22 => Node(Id("for"), "For", ("end", Choose(3)), ("body", Any(depth + 1))),
            23 => Node(Id("while"), "While", ("condition", Expression("CSharp", "Variables.X < 3")), ("body", Sequence(Id("round"), Raise(), Any(depth + 1)))),
            24 => Node(Id("fork"), "Fork", ("joinMode", Choose(2) == 0 ? "WaitAll" : "WaitAny"), ("branches", new JsonArray([.. Many(depth)]))),
            _ => Choose(2) == 0 ? Node(Id("parallel"), "Parallel", ("activities", new JsonArray([.. Many(depth)]))) : Node(Id("box"), "FlowNode", ("body", Any(depth + 1))),
        };
    }

    private JsonObject[] Many(int depth) => [.. Enumerable.Range(0, 1 + Choose(3)).Select(_ => Any(depth + 1))];

    private JsonObject Items() => Expression("Object", Choose(3) switch { 0 => "[1]", 1 => "[1,2]", _ => "[]" });

    private JsonObject Raise() => Node(Id("raise"), "SetVariable", ("variable", new JsonObject { ["id"] = "vx" }), ("value", Expression("CSharp", "Variables.X + 1")));

    private JsonObject Stage() => Typed(Node(Id("stage"), "", ("sources", "a")), "FastDraft.Ingest");

    private static JsonObject Typed(JsonObject activity, string type)
    {
        activity["type"] = type;
        return activity;
    }

    private JsonObject LiteralCase(string label, JsonObject? activity) =>
        new() { ["label"] = label, ["condition"] = new JsonObject { ["type"] = "Literal", ["value"] = Choose(2) == 0 }, ["activity"] = activity };

    // Nodes with forward connections between them, joins, and perhaps a loop back that ends because its way raises X.
    private JsonObject Flow(int depth)
    {
        var id = Id("flow");
        var (nodes, connections) = (new List<JsonObject>(), new List<string>());
        for (var i = 1 + Choose(4); i > 0; i--)
        {
            var node = Choose(6) switch
            {
                1 => Node(Id("branches"), "FlowFork", ("branches", Expression("Object", "[\"A\",\"B\"]"))),
                2 => Node(Id("join"), "FlowJoin", ("mode", Choose(3) switch { 0 => "WaitAny", 1 => "WaitAll", _ => "WaitAllActive" })),
                3 => Node(Id("decision"), "FlowDecision", ("condition", Choose(2) == 0)),
                4 => Node(Id("choice"), "FlowSwitch", ("mode", Choose(2) == 0 ? "MatchFirst" : "MatchAny"), ("cases", new JsonArray(LiteralCase("A", null), LiteralCase("B", null)))),
                _ => Any(depth + 1),
            };
            for (var from = 0; from < nodes.Count; from++)
            {
                if (from == nodes.Count - 1 || Choose(3) == 1)
                {
                    connections.Add($"{nodes[from]["id"]}.{Port(nodes[from])}>{node["id"]}");
                }
            }

            nodes.Add(node);
        }

        if (Choose(4) == 1)
        {
            var (raise, back) = (Raise(), Node(Id("back"), "FlowDecision", ("condition", Expression("CSharp", "Variables.X < 3"))));
            connections.AddRange([$"{nodes[^1]["id"]}.{Port(nodes[^1])}>{raise["id"]}", $"{raise["id"]}>{back["id"]}", $"{back["id"]}.True>{nodes[Choose(nodes.Count)]["id"]}"]);
            nodes.AddRange([raise, back]);
        }

        return WorkflowText.Flow(id, [.. nodes], [.. connections.Distinct()]);
    }

    private string Port(JsonObject node) => (string)node["type"]! switch
    {
        "Elsa.FlowFork" or "Elsa.FlowSwitch" => Choose(2) == 0 ? "A" : "B",
        "Elsa.FlowDecision" => Choose(2) == 0 ? "True" : "False",
        "FastDraft.Gate" => Choose(3) == 1 ? "Rejected" : "Approved",
        _ => "Done",
    };
}
