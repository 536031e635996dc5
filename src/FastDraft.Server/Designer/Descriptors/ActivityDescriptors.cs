using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;

namespace FastDraft.Server.Designer.Descriptors;

internal sealed record ListResponse<T>(IReadOnlyList<T> Items)
{
    public int Count => Items.Count;
}

internal sealed record ActivityDescriptor(
    string TypeName, string Namespace, string Name, string Category, string DisplayName, string Description, ActivityKind Kind,
    IReadOnlyList<InputDescriptor> Inputs, IReadOnlyList<OutputDescriptor> Outputs, IReadOnlyList<ActivityPort> Ports,
    bool IsContainer, bool IsBrowsable, bool IsStart, bool IsTerminal)
{
    public int Version => 1;

    public JsonObject CustomProperties => [];

    public JsonObject ConstructionProperties => [];
}

internal sealed record ActivityPort(string Name, string DisplayName, string Type)
{
    public bool IsBrowsable => true;

    public static ActivityPort Flow(string outcome) => new(outcome, outcome, "Flow");

    public static ActivityPort Embedded(string slot) => new(slot, slot, "Embedded");
}

/// <summary><paramref name="UiSpecifications"/> has one member, named like the hint: what that editor needs.</summary>
internal sealed record InputDescriptor(
    string Name, string TypeName, string DisplayName, string Description, string Category, double Order, string UiHint, bool IsWrapped,
    JsonNode? DefaultValue, string? DefaultSyntax, JsonObject UiSpecifications)
{
    public bool IsBrowsable => true;

    public bool IsReadOnly => false;

    public bool IsSensitive => false;

    public bool IsSynthetic => false;
}

internal sealed record OutputDescriptor(string Name, string TypeName, string DisplayName, string Description, double Order)
{
    public bool IsBrowsable => true;

    public bool IsSynthetic => false;
}

/// <summary>
/// <c>GET /descriptors/activities</c>: every stage and every activity that the interpreter runs, with an editor for each input.
/// </summary>
internal static class ActivityDescriptors
{
    public static void Map(IEndpointRouteBuilder api)
    {
        api.MapGet("/descriptors/activities", (PipelineOptions options) => new ListResponse<ActivityDescriptor>(All(options.Stages)));

        // No editor here depends on another input's value.
        api.MapPost("/descriptors/activities/{typeName}/options/{propertyName}", (string typeName, string propertyName) => new { Items = new JsonObject() });
    }

    public static IReadOnlyList<ActivityDescriptor> All(IReadOnlyList<StageDescriptor> stages) =>
        [.. stages.Select(Of), .. CoreActivities.All.Select(Of)];

    private static ActivityDescriptor Of(StageDescriptor stage) => new(
        stage.ActivityType, "FastDraft", stage.Name, "FastDraft", Words(stage.Name), stage.Description, ActivityKind.Action,
        [.. stage.Settings.Select(Of), .. stage.Inputs.Select((port, i) => Of(port, stage.Settings.Count + i))],
        [.. stage.Outputs.Select((port, i) => new OutputDescriptor(
            Pascal(port.Name), "Object", Words(port.Name), $"{port.Description.TrimEnd('.')}. Artifact of kind {port.Kind}; stages after this one take it by themselves.", i))],
        stage.Outcomes is ["Done"] ? [] : [.. stage.Outcomes.Select(ActivityPort.Flow)], IsContainer: false, IsBrowsable: true, IsStart: false, IsTerminal: false);

    private static InputDescriptor Of(SettingDescriptor setting, int order)
    {
        var (type, hint, specification) = setting.Type switch
        {
            SettingType.Integer => ("Int64", "singleline", Adorned(setting.Unit)),
            SettingType.Number => ("Double", "singleline", Adorned(setting.Unit)),
            SettingType.Boolean => ("Boolean", "checkbox", null),
            SettingType.Choice => ("String", "dropdown", Choices(setting.Required || setting.Default is not null ? setting.Choices! : ["", .. setting.Choices!])),
            SettingType.TextList or SettingType.PathList => ("List<String>", "multitext", null),
            _ => ("String", "singleline", Adorned(setting.Unit)),
        };
        return new InputDescriptor(
            Pascal(setting.Name), type, Words(setting.Name), Describe(setting), setting.Category, order, hint, IsWrapped: true, setting.Default?.DeepClone(), null,
            specification is null ? [] : new JsonObject { [hint] = specification });
    }

    // Whoever leaves it empty gets the nearest stage's output of that kind; that is what a person wants nearly always.
    private static InputDescriptor Of(PortDescriptor port, int order) => new(
        Pascal(port.Name), "String", Words(port.Name),
        $"{port.Description.TrimEnd('.')}. Artifact of kind {port.Kind}{(port.Required ? "" : ", optional")}: " +
        (port.Required ? "leave empty to take it from the nearest stage before that makes one, or write activity.output." : "write activity.output to connect it."),
        "Artifacts", order, "singleline", IsWrapped: true, null, null, []);

    private static ActivityDescriptor Of(CoreActivity activity) => new(
        activity.Type, activity.Namespace, activity.Name, activity.Category, activity.DisplayName, activity.Description, activity.Kind,
        [.. activity.Inputs.Select(Of)],
        [.. activity.Outputs.Select((o, i) => new OutputDescriptor(o.Name, o.Type, Words(o.Name), o.Description, i))],
        [.. activity.Slots.Select(ActivityPort.Embedded), .. activity.Outcomes.Select(ActivityPort.Flow)],
        activity.IsContainer, activity.IsBrowsable, activity.IsStart, activity.IsTerminal);

    private static InputDescriptor Of(ActivityInput input, int order)
    {
        var specification = input.Choices is { } choices ? Choices(choices)
            : input.UiHint == "code-editor" ? new JsonObject { ["language"] = "javascript", ["editorHeight"] = "Large", ["singleLineMode"] = false }
            : null;
        return new InputDescriptor(
            input.Name, input.Type, input.DisplayName ?? Words(input.Name), input.Description, "General", order, input.UiHint, input.Shape == InputShape.Wrapped,
            input.Default?.DeepClone(), input.Syntax, specification is null ? [] : new JsonObject { [input.UiHint] = specification });
    }

    private static string Describe(SettingDescriptor setting)
    {
        var notes = new List<string>();
        if (setting.Required)
        {
            notes.Add("required");
        }

        if (setting.Minimum is not null || setting.Maximum is not null)
        {
            notes.Add((setting.Minimum, setting.Maximum) switch
            {
                ({ } low, { } high) => FormattableString.Invariant($"{low} to {high}"),
                ({ } low, null) => FormattableString.Invariant($"at least {low}"),
                var (_, high) => FormattableString.Invariant($"at most {high}"),
            });
        }

        if (setting.Default is { } value)
        {
            notes.Add("default " + (value.GetValueKind() == JsonValueKind.String ? value.GetValue<string>() : value.ToJsonString()));
        }

        return notes.Count == 0 ? setting.Description : $"{setting.Description.TrimEnd('.')} ({string.Join("; ", notes)}).";
    }

    private static JsonObject? Adorned(string? unit) => unit is null ? null : new JsonObject { ["adornmentText"] = unit, ["enableCopyAdornment"] = false };

    private static JsonObject Choices(IReadOnlyList<string> choices) => new()
    {
        ["selectList"] = new JsonObject
        {
            ["items"] = new JsonArray([.. choices.Select(c => new JsonObject { ["text"] = c.Length == 0 ? "(the stage decides)" : c, ["value"] = c })]),
            ["isFlagsEnum"] = false, ["sortItems"] = false,
        },
    };

    private static string Pascal(string name) => char.ToUpperInvariant(name[0]) + name[1..];

    /// <summary><c>maxNewTokens</c> is read as <c>Max new tokens</c>.</summary>
    private static string Words(string name) => Pascal(string.Concat(name.Select((c, i) =>
        i > 0 && char.IsUpper(c) && !char.IsUpper(name[i - 1]) ? " " + char.ToLowerInvariant(c) : i > 0 && char.IsUpper(c) && i + 1 < name.Length && char.IsLower(name[i + 1]) ? " " + char.ToLowerInvariant(c) : c.ToString())));
}
