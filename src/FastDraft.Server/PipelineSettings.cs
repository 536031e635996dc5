using System.Globalization;
using FastDraft.Core.Stages;
using FastDraft.Server.Projections;
using FastDraft.Server.Retention;
using FastDraft.Storage.S3;

namespace FastDraft.Server;

/// <summary>
/// What a deployment decides by environment variables: they are read here and nowhere else, and docs/how-to/operate.md says what they do.
/// Nothing set: everything is in the data folder. What is secret in them reaches no worker, log, row or message.
/// </summary>
public sealed record PipelineSettings
{
    public const string KeepRunsVariable = "FASTDRAFT_KEEP_RUNS";
    public const string KeepDaysVariable = "FASTDRAFT_KEEP_DAYS";
    public const string CollectVariable = "FASTDRAFT_GC_EVERY_HOURS";
    public const string ProductionVariable = "FASTDRAFT_PRODUCTION";
    public const string AllowedHostsVariable = "FASTDRAFT_ALLOWED_HOSTS";
    private const string DatabaseVariable = "FASTDRAFT_DATABASE";

    /// <summary>Every variable, so that documents and compose files can be held against what is read.</summary>
    public static IReadOnlyList<string> Variables { get; } = [DatabaseVariable, ProductionVariable, AllowedHostsVariable, .. S3Settings.Variables, KeepRunsVariable, KeepDaysVariable, CollectVariable, .. ProjectionOptions.Variables];

    /// <summary>A PostgreSQL connection string as Npgsql reads it; null: SQLite in the data folder.</summary>
    public string? Database { get; init; }

    /// <summary>Where artifacts are kept; null: as files in the data folder.</summary>
    public S3Settings? Store { get; init; }

    /// <summary>Which runs keep their artifacts.</summary>
    public KeepRules Keep { get; init; } = new();

    /// <summary>How often a service collects garbage; null: never by itself.</summary>
    public TimeSpan? CollectEvery { get; init; }

    /// <summary>Others rely on the service: it does not start with secrets that are missing or known.</summary>
    public bool IsProduction { get; init; }

    /// <summary>Names by which the service may be called, besides this machine's own and that of <c>FASTDRAFT_URL</c>.</summary>
    public IReadOnlyList<string> AllowedHosts { get; init; } = [];

    /// <exception cref="StageFailureException">A variable is missing or cannot be read; secrets are not repeated.</exception>
    public static PipelineSettings FromEnvironment() => Read(Environment.GetEnvironmentVariable);

    /// <param name="variable">The value of a variable; null or empty where it is not set.</param>
    public static PipelineSettings Read(Func<string, string?> variable) => new()
    {
        Database = variable(DatabaseVariable) is { Length: > 0 } text ? text : null,
        Store = S3Settings.Read(variable),
        Keep = new KeepRules((int?)Number(variable, KeepRunsVariable), Number(variable, KeepDaysVariable) is { } days ? TimeSpan.FromDays(days) : null),
        CollectEvery = Number(variable, CollectVariable) is { } hours ? TimeSpan.FromHours(hours) : null,
        IsProduction = variable(ProductionVariable) switch
        {
            null or "" or "false" => false,
            "true" => true,
            _ => throw new StageFailureException(FailureKind.Config, $"{ProductionVariable} is neither true nor false.", ProductionVariable + "=true"),
        },
        AllowedHosts = (variable(AllowedHostsVariable) ?? "").Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries),
    };

    /// <summary>Where what happens is shown outside; read by hosts alone, for a file of subscriptions that is wrong must not keep anyone from looking.</summary>
    /// <exception cref="StageFailureException">A variable cannot be meant so; its value is not repeated.</exception>
    public static ProjectionOptions ReadProjections() => ProjectionOptions.Read(name => Environment.GetEnvironmentVariable(name) is { Length: > 0 } text ? text : null);

    private static long? Number(Func<string, string?> variable, string name) =>
        variable(name) is not { Length: > 0 } text ? null
        : long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number is > 0 and <= 36_500 ? number
        : throw new StageFailureException(FailureKind.Config, $"{name}: '{text}' is no whole number from 1 to 36500.", name + "=30");
}
