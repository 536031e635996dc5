using FastDraft.Core.Stages;
using FastDraft.Server.Projections.Webhooks;

namespace FastDraft.Server.Projections;

/// <summary>Where what happens here is shown. Secrets stay in this object: they reach no row, no message and no worker.</summary>
public sealed class ProjectionOptions
{
    private const string MlflowVariable = "FASTDRAFT_MLFLOW";
    private const string MlflowTokenVariable = "FASTDRAFT_MLFLOW_TOKEN";
    private const string OpenLineageVariable = "FASTDRAFT_OPENLINEAGE";
    private const string OpenLineageTokenVariable = "FASTDRAFT_OPENLINEAGE_TOKEN";
    private const string WebhooksVariable = "FASTDRAFT_WEBHOOKS";
    private const string PublicUrlVariable = "FASTDRAFT_URL";

    // The names that every program with traces reads.
    private const string TracesVariable = "OTEL_EXPORTER_OTLP_ENDPOINT";
    private const string TraceHeadersVariable = "OTEL_EXPORTER_OTLP_HEADERS";
    private const string TraceServiceVariable = "OTEL_SERVICE_NAME";

    public static ProjectionOptions None { get; } = new();

    public static IReadOnlyList<string> Variables { get; } = [MlflowVariable, MlflowTokenVariable, OpenLineageVariable, OpenLineageTokenVariable, WebhooksVariable, PublicUrlVariable, TracesVariable, TraceHeadersVariable, TraceServiceVariable];

    /// <summary>The tracking server.</summary>
    public Uri? Mlflow { get; init; }

    /// <summary>A bearer token for it.</summary>
    public string? MlflowToken { get; init; }

    /// <summary>An http address that takes OpenLineage events, or a file that they are appended to.</summary>
    public string? OpenLineage { get; init; }

    /// <summary>A bearer token for the address.</summary>
    public string? OpenLineageToken { get; init; }

    public IReadOnlyList<WebhookSubscription> Webhooks { get; init; } = [];

    /// <summary>The collector of traces, OTLP over HTTP; spans go to <c>/v1/traces</c> below it.</summary>
    public Uri? Traces { get; init; }

    /// <summary>Sent with each request to it; their values are secret.</summary>
    public IReadOnlyList<KeyValuePair<string, string>> TraceHeaders { get; init; } = [];

    /// <summary>What the spans are said to come from.</summary>
    public string TraceService { get; init; } = "fastdraft";

    /// <summary>Where people open the pages of this service; links in what is shown lead there.</summary>
    public Uri? PublicUrl { get; init; }

    /// <summary>How often an event that fails is tried before it is put aside.</summary>
    public int MaxTries { get; init; } = 8;

    /// <summary>How long a call may take.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <param name="variable">The value of an environment variable; null: not set.</param>
    /// <exception cref="StageFailureException">One of them cannot be meant so.</exception>
    public static ProjectionOptions Read(Func<string, string?> variable) => new()
    {
        Mlflow = Address(variable, MlflowVariable),
        MlflowToken = variable(MlflowTokenVariable),
        OpenLineage = variable(OpenLineageVariable),
        OpenLineageToken = variable(OpenLineageTokenVariable),
        Webhooks = variable(WebhooksVariable) is { } file ? WebhookSubscription.ReadFile(file, variable) : [],
        PublicUrl = Address(variable, PublicUrlVariable),
        Traces = Address(variable, TracesVariable),
        TraceHeaders = Headers(variable),
        TraceService = variable(TraceServiceVariable) ?? "fastdraft",
    };

    /// <summary>As OpenTelemetry has them: <c>name=value,name=value</c>, values percent-encoded.</summary>
    private static List<KeyValuePair<string, string>> Headers(Func<string, string?> variable)
    {
        var headers = new List<KeyValuePair<string, string>>();
        foreach (var text in (variable(TraceHeadersVariable) ?? "").Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
        {
            headers.Add(text.Split('=', 2) is [{ Length: > 0 } name, var value]
                ? KeyValuePair.Create(name.Trim(), Uri.UnescapeDataString(value.Trim()))
                : throw new StageFailureException(FailureKind.Config, $"{TraceHeadersVariable} is not name=value, with commas between them.", $"{TraceHeadersVariable}=api-key=..."));
        }

        return headers;
    }

    private static Uri? Address(Func<string, string?> variable, string name)
    {
        if (variable(name) is not { } text)
        {
            return null;
        }

        // Its value is not repeated: a password may stand in it.
        return Uri.TryCreate(text, UriKind.Absolute, out var address) && (address.Scheme == Uri.UriSchemeHttp || address.Scheme == Uri.UriSchemeHttps)
            ? address.UserInfo.Length == 0 ? address : throw new StageFailureException(FailureKind.Config, $"{name} holds a user name or password.", $"give the address alone, and a token in {name}_TOKEN")
            : throw new StageFailureException(FailureKind.Config, $"{name} is not an http address.", $"{name}=http://127.0.0.1:5000");
    }
}
