using System.Globalization;
using System.Net;
using FastDraft.Core.Security;
using FastDraft.Core.Stages;

namespace FastDraft.Storage.S3;

/// <summary>A bucket that speaks S3, and how patient the store is with it.</summary>
public sealed record S3Settings
{
    public const string StoreVariable = "FASTDRAFT_STORE";
    public const string EndpointVariable = "FASTDRAFT_S3_ENDPOINT";
    public const string AccessKeyVariable = "FASTDRAFT_S3_ACCESS_KEY";
    public const string SecretKeyVariable = "FASTDRAFT_S3_SECRET_KEY";
    public const string RegionVariable = "FASTDRAFT_S3_REGION";
    public const string CacheVariable = "FASTDRAFT_S3_CACHE_GIB";

    public static IReadOnlyList<string> Variables { get; } = [StoreVariable, EndpointVariable, AccessKeyVariable, SecretKeyVariable, RegionVariable, CacheVariable];

    /// <summary>http or https, without a path.</summary>
    public required Uri Endpoint { get; init; }

    public required string Bucket { get; init; }

    /// <summary>What every key begins with: empty, or without a slash at either end.</summary>
    public string Prefix { get; init; } = "";

    public required string AccessKey { get; init; }

    public required string SecretKey { get; init; }

    public string Region { get; init; } = "us-east-1";

    /// <summary>How many bytes of blobs a node keeps so as not to fetch them twice.</summary>
    public long CacheBytes { get; init; } = 64L << 30;

    /// <summary>A blob of more bytes than this is sent in parts of this many.</summary>
    public long PartBytes { get; init; } = 16L << 20;

    /// <summary>Blobs or parts that are under way at once, each way.</summary>
    public int MaxParallel { get; init; } = 4;

    /// <summary>How often an operation is tried altogether.</summary>
    public int MaxTries { get; init; } = 5;

    /// <summary>A try ends when no byte has moved for so long.</summary>
    public TimeSpan MaxStill { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Before the second try; doubled before each later one, and varied by half so that many nodes do not come back together.</summary>
    public TimeSpan FirstPause { get; init; } = TimeSpan.FromMilliseconds(200);

    /// <summary>The bucket that the environment names; null where <c>FASTDRAFT_STORE</c> is not set.</summary>
    /// <exception cref="StageFailureException">A variable is missing or cannot be used; secrets are not repeated.</exception>
    public static S3Settings? Read(Func<string, string?> variable)
    {
        if (Of(StoreVariable) is not { } store)
        {
            return null;
        }

        if (!Uri.TryCreate(store, UriKind.Absolute, out var place) || place.Scheme != "s3" || place.Host.Length == 0 || place.UserInfo.Length > 0 || place.Query.Length > 0 || place.Fragment.Length > 0)
        {
            throw Wrong($"{StoreVariable} is not of the form s3://bucket/prefix.", $"{StoreVariable}=s3://drafts/pipeline, or unset it to keep artifacts in the data folder");
        }

        var prefix = place.AbsolutePath.Trim('/');
        if (prefix.Any(c => !char.IsAsciiLetterOrDigit(c) && c is not ('-' or '_' or '.' or '/')) || prefix.Split('/').Any(part => part is "." or ".."))
        {
            throw Wrong($"{StoreVariable}: the prefix may have letters, digits, '-', '_', '.' and '/' only.", $"{StoreVariable}=s3://{place.Host}/pipeline");
        }

        var endpoint = Of(EndpointVariable) ?? throw Missing(EndpointVariable, "http://127.0.0.1:9000");
        if (!Uri.TryCreate(endpoint, UriKind.Absolute, out var address) || address.Scheme is not ("http" or "https") || address.AbsolutePath != "/" || address.Query.Length > 0 || address.UserInfo.Length > 0)
        {
            throw Wrong($"{EndpointVariable} is not an http or https address without a path.", $"{EndpointVariable}=https://s3.example.org");
        }

        var cache = Of(CacheVariable);
        long cacheGiB = 64;
        if (cache is not null && (!long.TryParse(cache, NumberStyles.None, CultureInfo.InvariantCulture, out cacheGiB) || cacheGiB > 1 << 20))
        {
            throw Wrong($"{CacheVariable} is not a whole number of GiB.", $"{CacheVariable}=64");
        }

        var settings = new S3Settings
        {
            Endpoint = address,
            Bucket = place.Host,
            Prefix = prefix,
            AccessKey = Of(AccessKeyVariable) ?? throw Missing(AccessKeyVariable, "the key's name"),
            SecretKey = Of(SecretKeyVariable) ?? throw Missing(SecretKeyVariable, "the key's secret"),
            Region = Of(RegionVariable) ?? "us-east-1",
            CacheBytes = cacheGiB << 30,
        };
        settings.RefuseWeakSecret();
        return settings;

        string? Of(string name) => variable(name) is { Length: > 0 } value ? value : null;
    }

    /// <summary>Names the place; a record would print the secret.</summary>
    public override string ToString() => $"s3://{Bucket}/{Prefix} at {Endpoint}";

    /// <exception cref="StageFailureException">A server that other machines reach is guarded by a key that everybody knows.</exception>
    private void RefuseWeakSecret()
    {
        if (!IsLoopback(Endpoint.Host)
            && (WeakSecret.Is(SecretKey) || SecretKey == AccessKey || WeakSecret.IsKnown(AccessKey)))
        {
            throw Wrong(
                $"{AccessKeyVariable} and {SecretKeyVariable} are a default or too short, and {Endpoint.Host} can be reached from other machines: anyone could read and change artifacts.",
                $"a key of its own for this pipeline, with a secret of at least {WeakSecret.Shortest} characters");
        }
    }

    private static bool IsLoopback(string host) => host.Equals("localhost", StringComparison.OrdinalIgnoreCase) || (IPAddress.TryParse(host.Trim('[', ']'), out var address) && IPAddress.IsLoopback(address));

    private static StageFailureException Missing(string name, string example) => Wrong($"{StoreVariable} names a bucket, but {name} is not set.", $"{name}={example}");

    private static StageFailureException Wrong(string message, string hint) => new(FailureKind.Config, message, hint);
}
