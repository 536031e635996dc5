using System.Security.Cryptography;
using System.Text.Json.Serialization;

namespace FastDraft.Core.Artifacts;

/// <summary>A SHA-256 digest, written <c>sha256:&lt;64 lowercase hex digits&gt;</c>. The only thing that ever becomes a storage location.</summary>
[JsonConverter(typeof(DigestJsonConverter))]
public readonly record struct Digest
{
    private const string Prefix = "sha256:";

    /// <summary>64 lowercase hex digits, without the prefix.</summary>
    public string Hex { get; }

    private Digest(string hex) => Hex = hex;

    public static Digest OfBytes(ReadOnlySpan<byte> bytes) => new(Convert.ToHexStringLower(SHA256.HashData(bytes)));

    public static Digest FromHash(ReadOnlySpan<byte> hash) => hash.Length == SHA256.HashSizeInBytes
        ? new(Convert.ToHexStringLower(hash))
        : throw new ArgumentException($"A SHA-256 hash has {SHA256.HashSizeInBytes} bytes, got {hash.Length}.", nameof(hash));

    public static async Task<Digest> OfStreamAsync(Stream stream, CancellationToken cancellationToken) =>
        FromHash(await SHA256.HashDataAsync(stream, cancellationToken));

    /// <exception cref="FormatException">The text is not <c>sha256:</c> and 64 lowercase hex digits.</exception>
    public static Digest Parse(string text) => TryParse(text, out var digest)
        ? digest
        : throw new FormatException($"'{text}' is not a digest. Expected sha256: and 64 lowercase hex digits.");

    public static bool TryParse(string? text, out Digest digest)
    {
        digest = default;
        if (text is null || !text.StartsWith(Prefix, StringComparison.Ordinal) || text.Length != Prefix.Length + 64)
        {
            return false;
        }

        foreach (var c in text.AsSpan(Prefix.Length))
        {
            if (!char.IsAsciiHexDigitLower(c))
            {
                return false;
            }
        }

        digest = new Digest(text[Prefix.Length..]);
        return true;
    }

    public override string ToString() => Prefix + Hex;
}

internal sealed class DigestJsonConverter : JsonConverter<Digest>
{
    public override Digest Read(ref System.Text.Json.Utf8JsonReader reader, Type typeToConvert, System.Text.Json.JsonSerializerOptions options) =>
        Digest.TryParse(reader.GetString(), out var digest) ? digest : throw new System.Text.Json.JsonException("Not a digest.");

    public override void Write(System.Text.Json.Utf8JsonWriter writer, Digest value, System.Text.Json.JsonSerializerOptions options) =>
        writer.WriteStringValue(value.ToString());
}
