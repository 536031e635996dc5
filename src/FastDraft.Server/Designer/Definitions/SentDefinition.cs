using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Server.Definitions;
using FastDraft.Server.Designer.Descriptors;

namespace FastDraft.Server.Designer.Definitions;

/// <summary>
/// A definition as the designer sends it, made whole. Of an input that a person sets on an activity fresh from the toolbox it writes
/// <c>"typeName": null</c>, and an input without a type counts as not set.
/// </summary>
internal static class SentDefinition
{
    /// <exception cref="DefinitionRefusedException">It is beyond the limits of a definition.</exception>
    public static JsonObject Read(JsonObject model, IReadOnlyList<StageDescriptor> stages)
    {
        var definition = DefinitionDocument.Parse(model.ToJsonString());
        var activities = ActivityDescriptors.All(stages).ToDictionary(a => a.TypeName, StringComparer.Ordinal);
        Complete(definition["root"], activities);
        return definition;
    }

    private static void Complete(JsonNode? node, Dictionary<string, ActivityDescriptor> activities)
    {
        if (node is JsonArray list)
        {
            foreach (var item in list)
            {
                Complete(item, activities);
            }
        }
        else if (node is JsonObject json)
        {
            var inputs = json["type"] is JsonValue type && type.TryGetValue<string>(out var name) && activities.TryGetValue(name, out var activity) ? activity.Inputs : [];
            foreach (var (member, value) in json)
            {
                if (value is JsonObject given && given["expression"] is JsonObject && given.TryGetPropertyValue("typeName", out var typeName) && typeName is null
                    && inputs.FirstOrDefault(i => i.Name.Equals(member, StringComparison.OrdinalIgnoreCase)) is { } input)
                {
                    given["typeName"] = input.TypeName;
                }

                Complete(value, activities);
            }
        }
    }
}
