using System.Text.Json.Nodes;

namespace FastDraft.Core.Stages;

/// <summary>One kind of work: reads input artifacts, writes output artifacts. Runs only inside a worker process.</summary>
public interface IStage
{
    StageDescriptor Descriptor { get; }

    /// <exception cref="StageFailureException">The stage's own verdict.</exception>
    Task ExecuteAsync(StageContext context, CancellationToken cancellationToken);
}

/// <summary>What a stage says while it works. Each call becomes one protocol line; none of them blocks on the database.</summary>
public interface IStageEvents
{
    /// <summary>Progress in the stage's own unit (optimizer steps, rows, bytes).</summary>
    void Progress(long done, long? total, string unit);

    /// <summary>A metric point, such as <c>loss</c> at an optimizer step.</summary>
    void Metric(string name, double value, long step);

    void Log(string message, StageLogLevel level = StageLogLevel.Information);
}

public enum StageLogLevel
{
    Information,
    Warning,
    Error,
}

/// <summary>
/// Everything an attempt may touch. Inputs are read-only folders; outputs are folders under the attempt's scratch that are hashed
/// and committed only after the stage returns; <see cref="ResumeFolder"/> outlives the attempt, so what a killed attempt wrote
/// there with tmp-then-rename is found by the next one.
/// </summary>
public sealed class StageContext(
    JsonObject settings,
    IReadOnlyDictionary<string, string> inputFolders,
    IReadOnlyDictionary<string, string> outputFolders,
    string scratchFolder,
    string resumeFolder,
    string accelerator,
    IStageEvents events)
{
    /// <summary>Every setting of the descriptor that has a value, defaults filled in, of the declared JSON type. Paths are absolute.</summary>
    public JsonObject Settings { get; } = settings;

    public IStageEvents Events { get; } = events;

    /// <summary><c>cpu</c> or <c>cuda</c>.</summary>
    public string Accelerator { get; } = accelerator;

    public string ScratchFolder { get; } = scratchFolder;

    public string ResumeFolder { get; } = resumeFolder;

    /// <summary>One of the descriptor's outcomes, or null for its first; set before the stage returns.</summary>
    public string? Outcome { get; set; }

    public bool HasInput(string port) => inputFolders.ContainsKey(port);

    public string Input(string port) => inputFolders.TryGetValue(port, out var folder)
        ? folder
        : throw new StageFailureException(FailureKind.Config, $"Input '{port}' is not connected.");

    /// <summary>The folder (created) to write this output's files into.</summary>
    public string Output(string port)
    {
        var folder = outputFolders[port];
        Directory.CreateDirectory(folder);
        return folder;
    }

    public string? Text(string name) => Settings[name]?.GetValue<string>();

    public string RequiredText(string name) => Text(name)
        ?? throw new StageFailureException(FailureKind.Config, $"Setting '{name}' has no value.");

    public long? Integer(string name) => Settings[name] is { } value ? value.Deserialize<long>() : null;

    public double? Number(string name) => Settings[name] is { } value ? value.Deserialize<double>() : null;

    public bool Flag(string name) => Settings[name]?.GetValue<bool>() ?? false;

    public IReadOnlyList<string> TextList(string name) =>
        Settings[name] is JsonArray array ? [.. array.Select(n => n!.GetValue<string>())] : [];
}

file static class JsonNodeNumbers
{
    public static T Deserialize<T>(this JsonNode node) => System.Text.Json.JsonSerializer.Deserialize<T>(node)!;
}
