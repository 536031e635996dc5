using System.Text.Json.Nodes;
using FastDraft.Core.Stages;

namespace FastDraft.Core.Workflows;

/// <summary>Starting stages: settings with their declared types, and which output feeds which port.</summary>
internal sealed partial class InterpreterStep
{
    private void StartStage(WorkflowActivity activity, ActivityInstance instance, StageDescriptor stage)
    {
        var settings = new JsonObject();
        foreach (var setting in stage.Settings)
        {
            var given = StageValue(activity, instance, setting.Name);
            if (given is null)
            {
                if (setting.Default is not null)
                {
                    settings[setting.Name] = setting.Default.DeepClone();
                }
                else if (setting.Required)
                {
                    throw new ActivityFaultException($"stage '{activity.Id}': setting '{setting.Name}' has no value");
                }

                continue;
            }

            var (value, error) = SettingValue.Convert(setting, given);
            settings[setting.Name] = error is null ? value : throw new ActivityFaultException($"stage '{activity.Id}': setting '{setting.Name}' {error}");
        }

        var inputs = new Dictionary<string, PortSource>(StringComparer.Ordinal);
        foreach (var port in stage.Inputs.Where(p => p.UnlessSetting is null || settings[p.UnlessSetting] is null))
        {
            if (Source(activity, instance, port) is { } source)
            {
                inputs[port.Name] = source;
            }
        }

        foreach (var (name, value) in settings)
        {
            instance.Inputs[name] = value?.DeepClone();
        }

        Await(instance, Awaited.Stage, new StartStage(instance.Id, activity.Id, stage, settings, inputs));
    }

    private JsonNode? StageValue(WorkflowActivity activity, ActivityInstance instance, string name)
    {
        try
        {
            return _expressions.TryEvaluate(activity, name, new ScriptContext(new VariableScope(_definition, _state, instance), instance), out var value) ? Counted(value) : null;
        }
        catch (ExpressionException e)
        {
            throw new ActivityFaultException($"stage '{activity.Id}': '{name}' cannot be evaluated: {e.Message}", e);
        }
    }

    private PortSource? Source(WorkflowActivity activity, ActivityInstance instance, PortDescriptor port)
    {
        if (StageValue(activity, instance, port.Name).AsText() is { Length: > 0 } text)
        {
            var dot = text.LastIndexOf('.');
            var (id, output) = dot < 0 ? (text, "") : (text[..dot], text[(dot + 1)..]);
            var produced = _definition.Activity(id) is { } source && _stages.TryGetValue(source.Type, out var stage)
                ? stage.Outputs.FirstOrDefault(o => o.Name == output)
                : null;
            if (produced is null || produced.Kind != port.Kind)
            {
                throw new ActivityFaultException($"stage '{activity.Id}': input '{port.Name}' expects kind {port.Kind}, got {produced?.Kind ?? "nothing"} (from '{text}')");
            }

            // What a branch that was not taken would have made is nothing to wait for where the stage can do without.
            return ResultOf(instance, id) is { } completed ? new PortSource(completed.InstanceId, id, output)
                : !port.Required ? null
                : throw new ActivityFaultException($"stage '{activity.Id}': input '{port.Name}' takes '{text}', and '{id}' has not completed");
        }

        if (!port.Required)
        {
            return null;
        }

        // A branch that was not taken produced nothing, so only completed stages count.
        var nearest = PortBinding.Nearest(
            PortBinding.Upstream(activity, port.Kind, _stages).Where(c => ResultOf(instance, c.Activity.Id) is not null), port.Name);
        if (nearest.Count == 0)
        {
            throw new ActivityFaultException($"stage '{activity.Id}': no stage before it made a {port.Kind} for input '{port.Name}'");
        }

        if (PortBinding.IsAmbiguous(nearest, _stages))
        {
            throw new ActivityFaultException(
                $"stage '{activity.Id}': input '{port.Name}' could be {string.Join(" or ", nearest.Select(c => $"'{c.Activity.Id}.{c.Port}'"))}");
        }

        var (result, last) = nearest.Select(c => (Result: ResultOf(instance, c.Activity.Id)!, c)).MaxBy(c => c.Result.Sequence);
        return new PortSource(result.InstanceId, last.Activity.Id, last.Port);
    }

    // The own branch's result first: side by side, the same activity may have completed elsewhere.
    private ActivityResult? ResultOf(ActivityInstance at, string activityId)
    {
        for (var instance = ParentOf(at); instance is not null; instance = ParentOf(instance))
        {
            if (instance.Results.TryGetValue(activityId, out var result))
            {
                return result;
            }
        }

        return _state.Results.GetValueOrDefault(activityId);
    }
}
