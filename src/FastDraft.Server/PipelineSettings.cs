using FastDraft.Core.Stages;
using FastDraft.Storage.S3;

namespace FastDraft.Server;

/// <summary>What the environment says about the servers that the pipeline stands on. Nothing set: everything is in the data folder.</summary>
public sealed record PipelineSettings
{
    /// <summary>Every variable, so that documents and compose files can be held against what is read.</summary>
    public static IReadOnlyList<string> Variables { get; } = [.. S3Settings.Variables];

    /// <summary>Where artifacts are kept; null: as files in the data folder.</summary>
    public S3Settings? Store { get; init; }

    /// <exception cref="StageFailureException">A variable is missing or cannot be read; its value is not repeated.</exception>
    public static PipelineSettings FromEnvironment() => Read(Environment.GetEnvironmentVariable);

    /// <param name="variable">The value of a variable; null or empty where it is not set.</param>
    public static PipelineSettings Read(Func<string, string?> variable) => new() { Store = S3Settings.Read(variable) };
}
