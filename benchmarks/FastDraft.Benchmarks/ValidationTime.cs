using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using FastDraft.Stages;

namespace FastDraft.Benchmarks;

/// <summary>
/// How long a workflow takes to validate when it is as long as asked: its flowchart is repeated, each copy after the one before.
/// Usage: validate &lt;workflow.json&gt; [activities=200] [runs=20]
/// </summary>
internal static class ValidationTime
{
    public static int Run(string[] args)
    {
        int Option(int index, int fallback) => args.Length > index ? int.Parse(args[index], CultureInfo.InvariantCulture) : fallback;
        var (count, runs) = (Option(1, 200), Option(2, 20));
        var json = Repeat(File.ReadAllText(args[0]), count);

        // The first run compiles, and is told apart: it is what a command line waits for.
        var times = new List<double>();
        var errors = 0;
        for (var run = 0; run <= runs; run++)
        {
            var started = Stopwatch.GetTimestamp();
            errors = WorkflowValidator.Validate(json, args[0], BuiltinStages.Descriptors).Count;
            times.Add(Stopwatch.GetElapsedTime(started).TotalMilliseconds);
        }

        var warm = times.Skip(1).Order().ToList();
        Console.WriteLine($"{count} activities, {json.Length} characters, {errors} errors: first {times[0]:F1}, median {warm[warm.Count / 2]:F1}, best {warm[0]:F1} ms");
        return 0;
    }

    private static string Repeat(string text, int count)
    {
        var definition = JsonNode.Parse(text)!.AsObject();
        var root = definition["root"]!.AsObject();
        var (one, links) = (root["activities"]!.AsArray(), root["connections"]!.AsArray());
        var ids = one.Select(a => (string)a!["id"]!).ToList();
        var (activities, connections) = (new JsonArray(), new JsonArray());
        for (var copy = 0; activities.Count < count; copy++)
        {
            foreach (var activity in one.Take(count - activities.Count))
            {
                activities.Add(Renamed(activity!, copy));
            }

            foreach (var link in links.Select(link => Renamed(link!, copy)).Where(link => new[] { "source", "target" }.All(end => activities.Any(a => (string)a!["id"]! == (string)link[end]!["activity"]!))))
            {
                connections.Add(link);
            }

            if (copy > 0)
            {
                connections.Add(new JsonObject
                {
                    ["source"] = new JsonObject { ["activity"] = $"{ids[^1]}_{copy - 1}", ["port"] = "Done" },
                    ["target"] = new JsonObject { ["activity"] = $"{ids[0]}_{copy}", ["port"] = "In" },
                });
            }
        }

        (root["activities"], root["connections"]) = (activities, connections);
        return definition.ToJsonString();

        JsonNode Renamed(JsonNode node, int copy) => JsonNode.Parse(ids.Aggregate(
            node.ToJsonString(),
            (json, id) => json.Replace($"\"{id}\"", $"\"{id}_{copy}\"", StringComparison.Ordinal).Replace($"\"{id}.", $"\"{id}_{copy}.", StringComparison.Ordinal)))!;
    }
}
