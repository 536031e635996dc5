using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;

namespace FastDraft.Server;

/// <summary>One thing that would make a run fail, found before it begins. <paramref name="Where"/> names the stages and the setting.</summary>
public sealed record RunProblem(string Where, FailureKind Kind, string Message, string? Hint);

/// <summary>Makes a run's inputs independent of where it was started, and finds what would fail hours later.</summary>
public static class RunInputs
{
    /// <summary>
    /// The inputs, with defaults, and every one that reaches a path setting made absolute from <paramref name="folder"/>: a retry
    /// from elsewhere means the same files. Which inputs do is seen by walking the workflow with a marked text in their place.
    /// </summary>
    public static Dictionary<string, JsonNode?> Absolute(
        PipelineOptions options, WorkflowDefinition definition, IReadOnlyDictionary<string, JsonNode?> inputs, string folder)
    {
        const string Marker = "marked-input";
        var absolute = definition.Inputs.ToDictionary(i => i.Name, i => (inputs.TryGetValue(i.Name, out var given) ? given : i.Default)?.DeepClone());
        foreach (var (name, value) in absolute.ToList())
        {
            if (value is JsonValue && value.GetValueKind() == System.Text.Json.JsonValueKind.String && value.GetValue<string>() is { Length: > 0 } text)
            {
                var marked = new Dictionary<string, JsonNode?>(absolute) { [name] = Marker };
                if (new WorkflowWalk(definition, options.Stages, marked).ToEnd().SelectMany(start => start.Stage.PathsIn(start.Settings)).Any(p => p.Paths.Contains(Marker)))
                {
                    absolute[name] = options.ResolvePath?.Invoke(text, folder) ?? Path.GetFullPath(text, folder);
                }
            }
        }

        return absolute;
    }

    /// <summary>Every problem of the settings that a run would use, each once however many stages share it.</summary>
    public static IReadOnlyList<RunProblem> Check(PipelineOptions options, WorkflowDefinition definition, IReadOnlyDictionary<string, JsonNode?> inputs)
    {
        var walk = new WorkflowWalk(definition, options.Stages, inputs);
        var check = options.NewSettingCheck?.Invoke() ?? ((_, _) => []);
        var found = walk.ToEnd()
            .SelectMany(start => check(start.Stage, start.Settings).Select(problem => (start.ActivityId, Problem: problem)))
            .GroupBy(f => f.Problem)
            .Select(g => new RunProblem(
                $"stage{(g.Count() == 1 ? string.Empty : "s")} {string.Join(", ", g.Select(f => $"'{f.ActivityId}'").Distinct())}: setting '{g.Key.Setting}'",
                g.Key.Kind, g.Key.Message, g.Key.Hint));
        return walk.Incident is null ? [.. found] : [.. found, .. Missing(options, definition, inputs)];
    }

    /// <summary>
    /// Why no run can come of these inputs. An input without a value is named where giving it one changes the failure; the next
    /// failure is then looked for, so that all of them are found.
    /// </summary>
    private static List<RunProblem> Missing(PipelineOptions options, WorkflowDefinition definition, IReadOnlyDictionary<string, JsonNode?> inputs)
    {
        var problems = new List<RunProblem>();
        var filled = new Dictionary<string, JsonNode?>(inputs);
        while (Incident(filled) is { } incident)
        {
            var missing = definition.Inputs.FirstOrDefault(i => filled.GetValueOrDefault(i.Name) is null
                && Incident(new Dictionary<string, JsonNode?>(filled) { [i.Name] = Placeholder(i) }) != incident);
            if (missing is null)
            {
                var wrong = definition.Inputs.FirstOrDefault(i => i.Default is not null && Incident(new Dictionary<string, JsonNode?>(filled) { [i.Name] = i.Default.DeepClone() }) != incident);
                return problems.Count > 0 ? problems : [new RunProblem(definition.Name, FailureKind.Config, incident, wrong is null ? null : $"--set {wrong.Name}={wrong.Default}")];
            }

            filled[missing.Name] = Placeholder(missing);
            problems.Add(new RunProblem(
                $"input '{missing.Name}'", FailureKind.Config, $"it has no value, and {definition.Name} needs one ({missing.Description ?? incident})", $"--set {missing.Name}=..."));
        }

        return problems;

        string? Incident(IReadOnlyDictionary<string, JsonNode?> given)
        {
            var walk = new WorkflowWalk(definition, options.Stages, given);
            walk.ToEnd();
            return walk.Incident;
        }
    }

    private static JsonNode Placeholder(WorkflowInput input) => input.Type is "Int64" or "Int32" or "Double" ? 1 : input.Type is "Boolean" ? false : "placeholder";
}
