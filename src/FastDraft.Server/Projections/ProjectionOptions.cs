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

    public static ProjectionOptions None { get; } = new();

    public static IReadOnlyList<string> Variables { get; } = [MlflowVariable, MlflowTokenVariable, OpenLineageVariable, OpenLineageTokenVariable, WebhooksVariable, PublicUrlVariable];

    /// <summary>The tracking server.</summary>
    public Uri? Mlflow { get; init; }

    /// <summary>A bearer token for it.</summary>
    public string? MlflowToken { get; init; }

    /// <summary>An http address that takes OpenLineage events, or a file that they are appended to.</summary>
    public string? OpenLineage { get; init; }

    /// <summary>A bearer token for the address.</summary>
    public string? OpenLineageToken { get; init; }

    public IReadOnlyList<WebhookSubscription> Webhooks { get; init; } = [];

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
    };

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
