using FastDraft.Core.Stages;
using FastDraft.Server.Projections;
using FastDraft.Storage.S3;

namespace FastDraft.Server;

/// <summary>
/// What the environment says about the servers that the pipeline stands on, read here and nowhere else; docs/how-to/operate.md says what
/// the variables do. Nothing set: everything is in the data folder. What is secret in them reaches no worker, log, row or message.
/// </summary>
public sealed record PipelineSettings
{
    private const string DatabaseVariable = "FASTDRAFT_DATABASE";

    /// <summary>Every variable, so that documents and compose files can be held against what is read.</summary>
    public static IReadOnlyList<string> Variables { get; } = [DatabaseVariable, .. S3Settings.Variables, .. ProjectionOptions.Variables];

    /// <summary>A PostgreSQL connection string as Npgsql reads it; null: SQLite in the data folder.</summary>
    public string? Database { get; init; }

    /// <summary>Where artifacts are kept; null: as files in the data folder.</summary>
    public S3Settings? Store { get; init; }

    /// <exception cref="StageFailureException">A variable is missing or cannot be read; its value is not repeated.</exception>
    public static PipelineSettings FromEnvironment() => Read(Environment.GetEnvironmentVariable);

    /// <param name="variable">The value of a variable; null or empty where it is not set.</param>
    public static PipelineSettings Read(Func<string, string?> variable) =>
        new() { Database = variable(DatabaseVariable) is { Length: > 0 } text ? text : null, Store = S3Settings.Read(variable) };

    /// <summary>Where what happens is shown outside; read by hosts alone, for a file of subscriptions that is wrong must not keep anyone from looking.</summary>
    /// <exception cref="StageFailureException">A variable cannot be meant so; its value is not repeated.</exception>
    public static ProjectionOptions ReadProjections() => ProjectionOptions.Read(name => Environment.GetEnvironmentVariable(name) is { Length: > 0 } text ? text : null);
}
