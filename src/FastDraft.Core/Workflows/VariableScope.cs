using System.Text.Json.Nodes;

namespace FastDraft.Core.Workflows;

/// <summary>
/// The variables an activity instance sees: what a loop gave it, its containers' own from the inside out, the workflow's last. The
/// nearest one of an id or name is meant.
/// </summary>
internal sealed class VariableScope(WorkflowDefinition definition, WorkflowState state, ActivityInstance? at)
{
    public bool TryGetById(string id, out JsonNode? value)
    {
        value = null;
        return HolderOfId(id)?.TryGetValue(id, out value) is true;
    }

    /// <returns>Whether there is such a variable.</returns>
    /// <exception cref="ExpressionException">The variable's type cannot hold the value.</exception>
    public bool TrySetById(string id, JsonNode? value)
    {
        if (HolderOfId(id) is not { } holder)
        {
            return false;
        }

        if (Declared().FirstOrDefault(v => v.Id == id) is { } variable)
        {
            (value, var error) = variable.Hold(value);
            holder[id] = error is null ? value : throw new ExpressionException($"variable '{variable.Name}' {error}");
        }
        else
        {
            holder[id] = value?.DeepClone();
        }

        return true;
    }

    public bool TryGetByName(string name, out JsonNode? value)
    {
        value = null;
        return IdOf(name) is { } id && TryGetById(id, out value);
    }

    public bool TrySetByName(string name, JsonNode? value) => IdOf(name) is { } id && TrySetById(id, value);

    /// <summary>Every name in scope once.</summary>
    public IEnumerable<string> Names() => Chain().SelectMany(instance => instance.Variables.Keys).Select(NameOf)
        .Concat(definition.Variables.Select(v => v.Name)).Where(name => name.Length > 0).Distinct(StringComparer.Ordinal);

    /// <summary>What an activity last put out, seen from here: of the own branch first. Null where it has not run.</summary>
    public IReadOnlyDictionary<string, JsonNode?>? OutputsOf(string activityId)
    {
        foreach (var instance in Chain())
        {
            if (instance.ActivityId == activityId && instance != at)
            {
                return instance.Outputs;
            }

            if (instance.Results.TryGetValue(activityId, out var result))
            {
                return result.Outputs;
            }
        }

        return state.Results.GetValueOrDefault(activityId)?.Outputs;
    }

    private IEnumerable<ActivityInstance> Chain()
    {
        for (var instance = at; instance is not null; instance = instance.ParentId is null ? null : state.Activities.Find(a => a.Id == instance.ParentId))
        {
            yield return instance;
        }
    }

    private IEnumerable<WorkflowVariable> Declared() =>
        Chain().SelectMany(instance => definition.Activity(instance.ActivityId)?.Variables ?? []).Concat(definition.Variables);

    private Dictionary<string, JsonNode?>? HolderOfId(string id) =>
        Chain().FirstOrDefault(instance => instance.Variables.ContainsKey(id))?.Variables ?? (state.Variables.ContainsKey(id) ? state.Variables : null);

    private string NameOf(string id) => Declared().FirstOrDefault(v => v.Id == id)?.Name ?? id;

    private string? IdOf(string name) =>
        Chain().SelectMany(instance => instance.Variables.Keys).FirstOrDefault(id => NameOf(id) == name)
        ?? definition.Variables.FirstOrDefault(v => v.Name == name)?.Id;
}
