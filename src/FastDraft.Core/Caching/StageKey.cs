using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;

namespace FastDraft.Core.Caching;

/// <summary>
/// Everything that decides a stage run's outputs. Equal keys mean that earlier outputs can be used again. Locations, times
/// and host names are not part of it: path settings appear as content digests.
/// </summary>
public sealed record StageKey(
    string Stage,
    int Version,
    IReadOnlyDictionary<string, string> Options,
    IReadOnlyDictionary<string, string> Paths,
    IReadOnlyDictionary<string, string> Inputs,
    IReadOnlyDictionary<string, string> Environment)
{
    /// <param name="pathDigests">The content digest of each path setting that has a value.</param>
    public static StageKey Of(
        StageDescriptor stage,
        JsonObject settings,
        IReadOnlyDictionary<string, Digest> pathDigests,
        IReadOnlyDictionary<string, Digest> inputs,
        IReadOnlyDictionary<string, string> environment)
    {
        var options = settings.Where(s => !pathDigests.ContainsKey(s.Key) && s.Value is not null)
            .ToDictionary(s => s.Key, s => Canonical(s.Value!));
        return new StageKey(
            stage.Name,
            stage.Version,
            options,
            pathDigests.ToDictionary(p => p.Key, p => p.Value.ToString()),
            inputs.ToDictionary(i => i.Key, i => i.Value.ToString()),
            environment);
    }

    /// <summary>Canonical JSON: members in ordinal order.</summary>
    public string ToJson()
    {
        var json = new JsonObject
        {
            ["stage"] = Stage,
            ["version"] = Version,
            ["options"] = Sorted(Options),
            ["paths"] = Sorted(Paths),
            ["inputs"] = Sorted(Inputs),
            ["environment"] = Sorted(Environment),
        };
        return json.ToJsonString();
    }

    public Digest ComputeDigest() => Digest.OfBytes(Encoding.UTF8.GetBytes(ToJson()));

    public static StageKey FromJson(string json)
    {
        var node = JsonNode.Parse(json)!.AsObject();
        return new StageKey(
            node["stage"]!.GetValue<string>(), node["version"]!.GetValue<int>(),
            Texts(node["options"]), Texts(node["paths"]), Texts(node["inputs"]), Texts(node["environment"]));
    }

    /// <summary>Why <paramref name="current"/> is a miss when <paramref name="previous"/> was the nearest earlier key.</summary>
    public static IReadOnlyList<string> Explain(StageKey? previous, StageKey current)
    {
        if (previous is null)
        {
            return ["no earlier run of this stage"];
        }

        var reasons = new List<string>();
        if (previous.Version != current.Version)
        {
            reasons.Add($"stage version {previous.Version} -> {current.Version}");
        }

        reasons.AddRange(Differences(previous.Options, current.Options, (n, a, b) => $"option `{n}` changed {a ?? "(unset)"} -> {b ?? "(unset)"}"));
        reasons.AddRange(Differences(previous.Paths, current.Paths, (n, a, b) =>
            a is null ? $"path `{n}` is new" : b is null ? $"path `{n}` was removed" : $"path `{n}` content changed"));
        reasons.AddRange(Differences(previous.Inputs, current.Inputs, (n, a, b) =>
            a is null ? $"input `{n}` is new" : b is null ? $"input `{n}` was removed" : $"input `{n}` changed"));
        reasons.AddRange(Differences(previous.Environment, current.Environment, (n, a, b) => $"environment `{n}` changed {a ?? "(unset)"} -> {b ?? "(unset)"}"));
        return reasons;
    }

    private static IEnumerable<string> Differences(
        IReadOnlyDictionary<string, string> previous, IReadOnlyDictionary<string, string> current, Func<string, string?, string?, string> say) =>
        from name in previous.Keys.Union(current.Keys).Order(StringComparer.Ordinal)
        let before = previous.GetValueOrDefault(name)
        let after = current.GetValueOrDefault(name)
        where before != after
        select say(name, before, after);

    private static JsonObject Sorted(IReadOnlyDictionary<string, string> map)
    {
        var json = new JsonObject();
        foreach (var (name, value) in map.OrderBy(p => p.Key, StringComparer.Ordinal))
        {
            json[name] = value;
        }

        return json;
    }

    private static Dictionary<string, string> Texts(JsonNode? node) =>
        node!.AsObject().ToDictionary(p => p.Key, p => p.Value!.GetValue<string>());

    private static string Canonical(JsonNode node) => node switch
    {
        JsonObject o => "{" + string.Join(',', o.OrderBy(p => p.Key, StringComparer.Ordinal)
            .Select(p => JsonSerializer.Serialize(p.Key) + ":" + (p.Value is null ? "null" : Canonical(p.Value)))) + "}",
        JsonArray a => "[" + string.Join(',', a.Select(n => n is null ? "null" : Canonical(n))) + "]",
        _ => node.ToJsonString(),
    };
}
