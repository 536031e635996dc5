using System.Text.Json.Nodes;

namespace FastDraft.Durability.Tests;

/// <summary>Workflows of the fake stages.</summary>
internal static class TestWorkflow
{
    /// <summary>Make, then Copy.</summary>
    public static JsonObject MakeAndCopy(int number = 1, string suffix = "a", bool dieOnce = false, string waitFor = "", string? source = null)
    {
        var make = Activity("make", "Make", ("number", Literal("Int64", number)), ("dieOnce", Literal("Boolean", dieOnce)), ("waitFor", Literal("String", waitFor)));
        if (source is not null)
        {
            make["source"] = Literal("String", source);
        }

        return Sequence(make, Activity("copy", "Copy", ("suffix", Literal("String", suffix))));
    }

    /// <summary>Make, a wait, then Copy: every durable action of a host.</summary>
    public static JsonObject MakeWaitAndCopy() => Sequence(
        Activity("make", "Make", ("number", Literal("Int64", 1))), Elsa("wait", "Delay", ("timeSpan", Literal("TimeSpan", "00:00:00.010"))),
        Activity("copy", "Copy", ("suffix", Literal("String", "a"))));

    public static JsonObject Misbehave(string act, long bytes = 0) =>
        Sequence(Activity("misbehave", "Misbehave", ("act", Literal("String", act)), ("bytes", Literal("Int64", bytes))));

    public static JsonObject Activity(string id, string stage, params (string Name, JsonObject Value)[] settings) => Node(id, "FastDraft." + stage, settings);

    /// <summary>An activity of the engine's own.</summary>
    public static JsonObject Elsa(string id, string type, params (string Name, JsonObject Value)[] inputs) => Node(id, "Elsa." + type, inputs);

    private static JsonObject Node(string id, string type, (string Name, JsonObject Value)[] settings)
    {
        var activity = new JsonObject { ["id"] = id, ["type"] = type, ["version"] = 1 };
        foreach (var (name, value) in settings)
        {
            activity[name] = value;
        }

        return activity;
    }

    public static JsonObject Literal(string type, JsonNode value) => new()
    {
        ["typeName"] = type,
        ["expression"] = new JsonObject { ["type"] = "Literal", ["value"] = value },
    };

    public static JsonObject Script(string type, string script) => new()
    {
        ["typeName"] = type,
        ["expression"] = new JsonObject { ["type"] = "JavaScript", ["value"] = script },
    };

    public static JsonObject Parallel(string id, params JsonObject[] activities)
    {
        var parallel = Elsa(id, "Parallel");
        parallel["activities"] = new JsonArray([.. activities]);
        return parallel;
    }

    /// <summary>One activity after the other.</summary>
    public static JsonObject Sequence(params JsonObject[] activities) =>
        Flow(activities, [.. activities.Zip(activities.Skip(1), (from, to) => ((string)from["id"]!, "Done", (string)to["id"]!))]);

    public static JsonObject Flow(JsonObject[] activities, params (string From, string Port, string To)[] connections) => new()
    {
        ["id"] = "t-v1",
        ["definitionId"] = "t",
        ["name"] = "t",
        ["version"] = 1,
        ["variables"] = new JsonArray(),
        ["inputs"] = new JsonArray(),
        ["root"] = new JsonObject
        {
            ["id"] = "f",
            ["type"] = "Elsa.Flowchart",
            ["version"] = 1,
            ["variables"] = new JsonArray(),
            ["activities"] = new JsonArray([.. activities]),
            ["connections"] = new JsonArray([.. connections.Select(c => new JsonObject
            {
                ["source"] = new JsonObject { ["activity"] = c.From, ["port"] = c.Port },
                ["target"] = new JsonObject { ["activity"] = c.To, ["port"] = "In" },
            })]),
        },
    };
}
