using System.Collections.Frozen;
using System.IO.Compression;
using System.Security.Cryptography;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Net.Http.Headers;

namespace FastDraft.Server.ConsolePages;

/// <summary>
/// The console's scripts, styles and fonts, read from the assembly: a build and a published service have no file that could be missing or
/// of another version. An address names the content of them all, so a browser keeps it for ever and one file can name another; what stands between keeps nothing, for
/// whoever is not signed in gets none of them.
/// </summary>
internal static class ConsoleAssets
{
    private const string Prefix = "console/";

    private static readonly FrozenDictionary<string, Asset> All = typeof(ConsoleAssets).Assembly.GetManifestResourceNames()
        .Where(n => n.StartsWith(Prefix, StringComparison.Ordinal)).Select(n => new Asset(n)).ToFrozenDictionary(a => a.Name, StringComparer.Ordinal);

    private static readonly string Version = Convert.ToHexStringLower(SHA256.HashData(
        [.. All.Values.OrderBy(a => a.Name, StringComparer.Ordinal).SelectMany(a => SHA256.HashData(a.Bytes))]).AsSpan(0, 6));

    public static string Url(string name) => All.ContainsKey(name) ? $"/assets/{Version}/{name}" : throw new ArgumentException($"The assembly has no asset '{name}'.", nameof(name));

    public static byte[] Read(string name) => All[name].Bytes;

    public static void Map(IEndpointRouteBuilder routes) => routes.MapGet("/assets/{version}/{name}", (string version, string name, HttpContext context) =>
    {
        if (!All.TryGetValue(name, out var asset) || version != Version)
        {
            return Results.NotFound();
        }

        context.Response.Headers.CacheControl = "private, max-age=31536000, immutable";
        if (!asset.IsText)
        {
            return Results.Bytes(asset.Bytes, asset.Type);
        }

        context.Response.Headers.Vary = HeaderNames.AcceptEncoding;
        if (!context.Request.Headers.AcceptEncoding.ToString().Contains("br", StringComparison.Ordinal))
        {
            return Results.Bytes(asset.Bytes, asset.Type);
        }

        context.Response.Headers.ContentEncoding = "br";
        return Results.Bytes(asset.Compressed, asset.Type);
    });

    private sealed class Asset
    {
        private readonly Lazy<byte[]> compressed;

        public Asset(string resource)
        {
            using var stream = typeof(ConsoleAssets).Assembly.GetManifestResourceStream(resource)!;
            Bytes = new byte[stream.Length];
            stream.ReadExactly(Bytes);
            Name = resource[Prefix.Length..];
            compressed = new Lazy<byte[]>(() => Compress(Bytes));
        }

        public string Name { get; }

        public byte[] Bytes { get; }

        public byte[] Compressed => compressed.Value;

        public bool IsText => Type != "font/woff2";

        public string Type => Path.GetExtension(Name) switch
        {
            ".css" => "text/css; charset=utf-8",
            ".js" => "text/javascript; charset=utf-8",
            ".svg" => "image/svg+xml",
            _ => "font/woff2",
        };

        private static byte[] Compress(byte[] bytes)
        {
            using var buffer = new MemoryStream();
            using (var brotli = new BrotliStream(buffer, CompressionLevel.Fastest, leaveOpen: true))
            {
                brotli.Write(bytes);
            }

            return buffer.ToArray();
        }
    }
}
