using System.Text.Json.Nodes;
using FastDraft.Core.Stages;

namespace FastDraft.Core.Workflows;

/// <summary>A workflow with other values for settings of its stages: what a run is repeated with after one of them was wrong.</summary>
public static class EditedSettings
{
    /// <param name="edits">By activity id: settings and their new values. Null gives a setting back what it is by default.</param>
    /// <param name="resolvePath">The absolute path that a path setting means.</param>
    /// <exception cref="StageFailureException">A stage or setting is not there, or its value cannot be.</exception>
    public static WorkflowDefinition Apply(
        WorkflowDefinition definition, IReadOnlyList<StageDescriptor> stages, IReadOnlyDictionary<string, JsonObject> edits, Func<string, string> resolvePath)
    {
        var edited = WorkflowDefinition.Parse(definition.ToJson());
        var known = edited.Root.SelfAndDescendants().Where(a => stages.Any(s => s.ActivityType == a.Type)).DistinctBy(a => a.Id).ToDictionary(a => a.Id, StringComparer.Ordinal);
        foreach (var (id, settings) in edits)
        {
            if (!known.TryGetValue(id, out var activity))
            {
                throw new StageFailureException(FailureKind.Config, $"The run has no stage '{id}'.", Suggest(id, known.Keys));
            }

            var stage = stages.First(s => s.ActivityType == activity.Type);
            foreach (var (name, value) in settings)
            {
                var setting = stage.Settings.FirstOrDefault(s => s.Name == name)
                    ?? throw new StageFailureException(FailureKind.Config, $"Stage '{id}' has no setting '{name}'.", Suggest(name, stage.Settings.Select(s => s.Name)));
                Set(activity, setting, value, resolvePath);
            }
        }

        return WorkflowDefinition.Parse(edited.ToJson());
    }

    private static void Set(WorkflowActivity activity, SettingDescriptor setting, JsonNode? given, Func<string, string> resolvePath)
    {
        foreach (var written in activity.Json.Select(m => m.Key).Where(k => k.Equals(setting.Name, StringComparison.OrdinalIgnoreCase)).ToList())
        {
            activity.Json.Remove(written);
        }

        if (given is null)
        {
            return;
        }

        var (value, error) = SettingValue.Convert(setting, given);
        if (error is not null)
        {
            throw new StageFailureException(FailureKind.Config, $"Stage '{activity.Id}': setting '{setting.Name}' {error}.");
        }

        var (typeName, type) = setting.Type switch
        {
            SettingType.Integer => ("Int64", "Literal"),
            SettingType.Number => ("Double", "Literal"),
            SettingType.Boolean => ("Boolean", "Literal"),
            SettingType.TextList or SettingType.PathList => ("String[]", "Object"),
            _ => ("String", "Literal"),
        };
        value = setting.Type switch
        {
            SettingType.Path => resolvePath(value!.GetValue<string>()),
            SettingType.PathList => new JsonArray([.. value!.AsArray().Select(v => (JsonNode?)resolvePath(v!.GetValue<string>()))]),
            _ => value,
        };
        activity.Json[setting.Name] = new JsonObject
        {
            ["typeName"] = typeName, ["expression"] = new JsonObject { ["type"] = type, ["value"] = value is JsonArray ? value.ToJsonString() : value },
        };
    }

    private static string Suggest(string name, IEnumerable<string> known) =>
        Spelling.Nearest(name, known) is { } near ? $"did you mean '{near}'?" : "one of " + string.Join(", ", known);
}
