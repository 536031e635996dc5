using System.Text.Json;

namespace FastDraft.Core.Artifacts;

/// <summary>One file of an artifact. <see cref="Path"/> is relative, with forward slashes, and is never used as a storage location.</summary>
public sealed record ArtifactFile(string Path, long SizeBytes, Digest Digest);

/// <summary>
/// The canonical list of an artifact's files. The artifact's digest is the SHA-256 of this manifest's canonical JSON
/// (kind, then files sorted by ordinal path), so equal bytes have equal digests wherever they were made.
/// </summary>
public sealed record ArtifactManifest(string Kind, IReadOnlyList<ArtifactFile> Files)
{
    public long SizeBytes => Files.Sum(f => f.SizeBytes);

    public byte[] ToCanonicalJson()
    {
        using var buffer = new MemoryStream();
        using (var writer = new Utf8JsonWriter(buffer))
        {
            writer.WriteStartObject();
            writer.WriteString("kind", Kind);
            writer.WriteStartArray("files");
            foreach (var file in Files.OrderBy(f => f.Path, StringComparer.Ordinal))
            {
                writer.WriteStartObject();
                writer.WriteString("path", file.Path);
                writer.WriteNumber("size", file.SizeBytes);
                writer.WriteString("digest", file.Digest.ToString());
                writer.WriteEndObject();
            }

            writer.WriteEndArray();
            writer.WriteEndObject();
        }

        return buffer.ToArray();
    }

    public Digest ComputeDigest() => Digest.OfBytes(ToCanonicalJson());

    /// <exception cref="FormatException">The JSON is not a manifest.</exception>
    public static ArtifactManifest Parse(ReadOnlySpan<byte> json)
    {
        try
        {
            var reader = new Utf8JsonReader(json);
            using var document = JsonDocument.ParseValue(ref reader);
            var root = document.RootElement;
            var files = root.GetProperty("files").EnumerateArray().Select(f => new ArtifactFile(
                f.GetProperty("path").GetString()!, f.GetProperty("size").GetInt64(), Digest.Parse(f.GetProperty("digest").GetString()!)));
            return new ArtifactManifest(root.GetProperty("kind").GetString()!, [.. files]);
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new FormatException("Not an artifact manifest: " + e.Message, e);
        }
    }
}
