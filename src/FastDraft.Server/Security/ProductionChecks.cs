using System.Data.Common;
using FastDraft.Core.Security;
using FastDraft.Server.Projections;
using FastDraft.Server.Web;

namespace FastDraft.Server.Security;

/// <summary>
/// What a service that others rely on must not start with. They are made where <c>FASTDRAFT_PRODUCTION</c> is set, and always where other
/// machines reach the address.
/// </summary>
public static class ProductionChecks
{
    /// <summary>Every reason not to start, as a sentence that names the variable and repeats no secret.</summary>
    public static IReadOnlyList<string> Find(PipelineSettings settings, ProjectionOptions projections, WebOptions web)
    {
        var found = new List<string>();
        if (web.IsPublic && web.PublicUrl is null && web.AllowedHosts.Count == 0)
        {
            found.Add("Neither FASTDRAFT_URL nor FASTDRAFT_ALLOWED_HOSTS says by which names the service is called.");
        }

        if (!settings.IsProduction && !web.IsPublic)
        {
            return found;
        }

        if (settings.Database is { } database && NeedsPassword(database) is { } password && WeakSecret.Is(password))
        {
            found.Add($"FASTDRAFT_DATABASE has no password, a default one, or one of fewer than {WeakSecret.Shortest} characters.");
        }

        if (settings.Store is { } store && (WeakSecret.Is(store.SecretKey) || WeakSecret.IsKnown(store.AccessKey)))
        {
            found.Add($"FASTDRAFT_S3_ACCESS_KEY and FASTDRAFT_S3_SECRET_KEY are a default or shorter than {WeakSecret.Shortest} characters.");
        }

        if (projections.MlflowToken is { } mlflow && WeakSecret.Is(mlflow))
        {
            found.Add("FASTDRAFT_MLFLOW_TOKEN is a default or too short.");
        }

        if (projections.OpenLineageToken is { } lineage && WeakSecret.Is(lineage))
        {
            found.Add("FASTDRAFT_OPENLINEAGE_TOKEN is a default or too short.");
        }

        found.AddRange(projections.Webhooks.Where(w => WeakSecret.Is(w.Secret)).Select(w => $"FASTDRAFT_WEBHOOKS: the secret of '{w.Name}' is a default or too short."));
        return found;
    }

    /// <summary>The password of a connection string, empty where it has none; null where the database knows its client otherwise.</summary>
    private static string? NeedsPassword(string connectionString)
    {
        var values = new DbConnectionStringBuilder { ConnectionString = connectionString };
        return Value("Host")?.StartsWith('/') == true || Value("Passfile") is not null || Value("SSL Certificate") is not null ? null : Value("Password") ?? Value("PWD") ?? "";

        string? Value(string key) => values.TryGetValue(key, out var value) ? value as string : null;
    }
}
