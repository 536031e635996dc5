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
    string Category = "General");

/// <summary>An input or output of a stage, typed by artifact kind.</summary>
public sealed record PortDescriptor(string Name, string Kind, string Description, bool Required = true);

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
    /// <summary>The activity type in a workflow definition, such as <c>FastDraft.PretrainDraft</c>.</summary>
    public string ActivityType => "FastDraft." + Name;
}
