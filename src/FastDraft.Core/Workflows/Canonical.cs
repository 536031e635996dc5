using System.Text.Json.Nodes;

namespace FastDraft.Core.Workflows;

/// <summary>The part of a definition that decides what a run does, in one fixed order.</summary>
internal static class Canonical
{
    // nodeId follows from the ids, metadata is the designer's, and memoryReference plays no part in evaluation.
    private static readonly HashSet<string> Cosmetic =
        new(["nodeId", "metadata", "version", "vertices", "activities", "connections", "start", "displayName", "description"], StringComparer.OrdinalIgnoreCase);

    private static readonly HashSet<string> AbsentMeansFalse = new(["isArray", "canStartWorkflow", "runAsynchronously"], StringComparer.OrdinalIgnoreCase);

    public static JsonObject Of(WorkflowDefinition definition, JsonObject json)
    {
        var result = new JsonObject
        {
            ["definitionId"] = definition.DefinitionId,
            ["inputs"] = Inputs(definition, json),
            ["outputs"] = Named(json, "outputs"),
            ["root"] = Activity(definition.Root),
            ["variables"] = Named(json, "variables"),
        };
        if (definition.ContinuesWithIncidents)
        {
            result["continuesWithIncidents"] = true;
        }

        return result;
    }

    // A default counts the same beside the input and under the workflow's custom properties.
    private static JsonArray Inputs(WorkflowDefinition definition, JsonObject json)
    {
        var inputs = Named(json, "inputs");
        foreach (var input in inputs.OfType<JsonObject>())
        {
            if (definition.Inputs.FirstOrDefault(i => i.Name == input.Text("name"))?.Default is { } value)
            {
                input.Remove("defaultValue");
                input["defaultValue"] = value.DeepClone();
            }
        }

        return inputs;
    }

    private static JsonArray Named(JsonObject json, string member) =>
        [.. json.Objects(member).Select(item => Members(item, true)).OrderBy(item => item.Text("name"), StringComparer.Ordinal)];

    private static JsonObject Activity(WorkflowActivity activity)
    {
        var result = Members(activity.Json, true);
        foreach (var slot in activity.Children.GroupBy(child => child.Slot))
        {
            foreach (var written in result.Select(member => member.Key).Where(key => string.Equals(key, slot.Key, StringComparison.OrdinalIgnoreCase)).ToList())
            {
                result.Remove(written);
            }

            if (activity.Core?.Input(slot.Key) is { Shape: InputShape.Cases })
            {
                result[slot.Key] = new JsonArray([.. activity.Json.Objects(slot.Key).Select(json => Case(json, slot))]);
            }
            else if (slot.Key == (activity.Core is null ? "activities" : activity.Core.ChildList))
            {
                // Studio reorders a flowchart's activities; all that their order decides is which one starts.
                var isFlowchart = activity.Type == ActivityTypes.Flowchart;
                result[slot.Key] = new JsonArray([.. (isFlowchart ? slot.OrderBy(a => a.Id, StringComparer.Ordinal) : slot.AsEnumerable()).Select(Activity)]);
                result["start"] = isFlowchart ? FlowGraph.StartOf(activity)?.Id : null;
            }
            else
            {
                result[slot.Key] = Activity(slot.First());
            }
        }

        if (activity.Connections.Count > 0)
        {
            result["connections"] = new JsonArray(
            [
                .. activity.Connections.Select(c => $"{c.Source}\n{c.SourcePort}\n{c.Target}\n{c.TargetPort}")
                    .Order(StringComparer.Ordinal).Select(c => (JsonNode)c),
            ]);
        }

        return result;
    }

    private static JsonObject Case(JsonObject json, IEnumerable<WorkflowActivity> activities)
    {
        var result = Members(json, false);
        if (json.Member("activity") is JsonObject given)
        {
            result.Remove("activity");
            result["activity"] = Activity(activities.First(a => a.Json == given));
        }

        return result;
    }

    private static JsonObject Members(JsonObject json, bool dropCosmetic)
    {
        var result = new JsonObject();
        foreach (var (key, value) in json.OrderBy(member => member.Key, StringComparer.Ordinal))
        {
            if (value is null or JsonObject { Count: 0 } or JsonArray { Count: 0 }
                || (AbsentMeansFalse.Contains(key) && value is JsonValue && value.GetValueKind() is System.Text.Json.JsonValueKind.False)
                || (dropCosmetic && Cosmetic.Contains(key)) || key is "memoryReference" or "notFoundConnections")
            {
                continue;
            }

            var part = Value(value);
            if (part is not JsonObject { Count: 0 })
            {
                result[key] = part;
            }
        }

        return result;
    }

    private static JsonNode? Value(JsonNode? value) => value switch
    {
        JsonObject json => Members(json, false),
        JsonArray array => new JsonArray([.. array.Select(Value)]),
        _ => value?.DeepClone(),
    };
}
