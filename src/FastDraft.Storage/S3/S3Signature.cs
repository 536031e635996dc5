using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace FastDraft.Storage.S3;

/// <summary>
/// AWS Signature Version 4 of a request whose body's SHA-256 is known beforehand, so that the server refuses a body that changed on
/// the way. Source: docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html.
/// </summary>
internal static class S3Signature
{
    /// <summary>SHA-256 of no bytes, for requests without a body.</summary>
    public const string EmptyBody = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// <param name="request">Its path and the names and values of its query need no escaping beyond what they have.</param>
    public static void Sign(HttpRequestMessage request, S3Settings settings, string bodySha256Hex, DateTimeOffset now)
    {
        var uri = request.RequestUri!;
        var instant = now.UtcDateTime.ToString("yyyyMMdd'T'HHmmss'Z'", CultureInfo.InvariantCulture);
        var scope = $"{instant[..8]}/{settings.Region}/s3/aws4_request";
        var host = uri.IsDefaultPort ? uri.Host : $"{uri.Host}:{uri.Port.ToString(CultureInfo.InvariantCulture)}";
        var query = string.Join('&', uri.Query.TrimStart('?').Split('&', StringSplitOptions.RemoveEmptyEntries).Select(p => p.Contains('=', StringComparison.Ordinal) ? p : p + "=").Order(StringComparer.Ordinal));
        const string SignedHeaders = "host;x-amz-content-sha256;x-amz-date";
        var canonical = $"{request.Method}\n{uri.AbsolutePath}\n{query}\nhost:{host}\nx-amz-content-sha256:{bodySha256Hex}\nx-amz-date:{instant}\n\n{SignedHeaders}\n{bodySha256Hex}";
        var toSign = $"AWS4-HMAC-SHA256\n{instant}\n{scope}\n{Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(canonical)))}";
        var key = Encoding.UTF8.GetBytes("AWS4" + settings.SecretKey);
        foreach (var part in scope.Split('/'))
        {
            key = HMACSHA256.HashData(key, Encoding.UTF8.GetBytes(part));
        }

        var signature = Convert.ToHexStringLower(HMACSHA256.HashData(key, Encoding.UTF8.GetBytes(toSign)));
        request.Headers.Host = host;
        request.Headers.TryAddWithoutValidation("x-amz-content-sha256", bodySha256Hex);
        request.Headers.TryAddWithoutValidation("x-amz-date", instant);
        request.Headers.TryAddWithoutValidation("Authorization", $"AWS4-HMAC-SHA256 Credential={settings.AccessKey}/{scope}, SignedHeaders={SignedHeaders}, Signature={signature}");
    }
}
