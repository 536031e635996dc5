using System.Text.Json.Nodes;

namespace FastDraft.Core.Stages;

public enum SettingType
{
    Text,
    Integer,
    Number,
    Boolean,

    /// <summary>One of <see cref="SettingDescriptor.Choices"/>.</summary>
    Choice,

    /// <summary>A list of texts.</summary>
    TextList,

    /// <summary>
    /// A local file, folder or glob outside the pipeline. The digest of its content, not its location, enters the StageKey
    /// and the lineage.
    /// </summary>
    Path,

    /// <summary>A list of <see cref="Path"/>.</summary>
    PathList,
}

/// <summary>What a path setting must lead to, so that a wrong path is found before a run begins.</summary>
public enum PathContent
{
    /// <summary>A file, or a folder of files.</summary>
    Files,

    /// <summary>A Hugging Face folder: config.json, safetensors weights, tokenizer.json.</summary>
    Model,

    /// <summary>A source of text: a file, folder, glob or the name of a built-in source.</summary>
    Text,
}

/// <summary>One thing wrong with a setting's value, as a person should read it.</summary>
public sealed record SettingProblem(string Setting, FailureKind Kind, string Message, string? Hint);

/// <summary>A setting of a stage. Null <see cref="Default"/> and not <see cref="Required"/> means "derived by the stage".</summary>
public sealed record SettingDescriptor(
    string Name,
    SettingType Type,
    string Description,
    JsonNode? Default = null,
    bool Required = false,
    IReadOnlyList<string>? Choices = null,
    double? Minimum = null,
    double? Maximum = null,
    string? Unit = null,
    string Category = "General",
    PathContent Content = PathContent.Files);

/// <summary>
/// An input or output of a stage, typed by artifact kind. Where the setting <see cref="UnlessSetting"/> has a value the stage does not
/// read the port: it is left unconnected, so that a change of what it would have held runs nothing again. An output that is not
/// <see cref="Required"/> is there only where the stage wrote it.
/// </summary>
public sealed record PortDescriptor(string Name, string Kind, string Description, bool Required = true, string? UnlessSetting = null);

/// <summary>
/// What the workflow layer knows of a stage. <see cref="Version"/> is part of the StageKey: raise it when the same inputs
/// would give other outputs.
/// </summary>
public sealed record StageDescriptor(
    string Name,
    int Version,
    string Description,
    IReadOnlyList<SettingDescriptor> Settings,
    IReadOnlyList<PortDescriptor> Inputs,
    IReadOnlyList<PortDescriptor> Outputs)
{
    /// <summary>The ports a workflow may follow from the stage; a stage that says nothing ends with the first one.</summary>
    public IReadOnlyList<string> Outcomes { get; init; } = ["Done"];

    /// <summary>
    /// The server answers from its tables when it prepares the stage run; no worker is started. The outputs are artifacts of earlier
    /// runs, which so enter the keys and the lineage of whatever they are wired to.
    /// </summary>
    public bool IsLookup { get; init; }

    /// <summary>The activity type in a workflow definition, such as <c>FastDraft.PretrainDraft</c>.</summary>
    public string ActivityType => "FastDraft." + Name;

    /// <summary>The path settings that have a value in <paramref name="settings"/>, and the paths each of them names, in order.</summary>
    public IEnumerable<(SettingDescriptor Setting, IReadOnlyList<string> Paths)> PathsIn(JsonObject settings) =>
        from setting in Settings
        where setting.Type is SettingType.Path or SettingType.PathList
        let value = settings[setting.Name]
        where value is not null
        select (setting, (IReadOnlyList<string>)(value is JsonArray list ? [.. list.Select(n => n!.GetValue<string>())] : [value.GetValue<string>()]));
}
