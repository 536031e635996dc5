using System.Buffers.Text;
using System.Security.Cryptography;
using System.Text;
using FastDraft.Persistence.Security;

namespace FastDraft.Server.Security;

/// <summary>
/// The text of a secret: a prefix that says what it is, so that scanners of repositories and logs can find one that leaked
/// (<c>fdt_[A-Za-z0-9_-]{43}</c>), and 256 random bits.
/// </summary>
internal static class Secret
{
    private const int NumBytes = 32;

    public static string New(CredentialKind kind) => PrefixOf(kind) + Base64Url.EncodeToString(RandomNumberGenerator.GetBytes(NumBytes));

    /// <summary>Null: the text is no secret of ours.</summary>
    public static CredentialKind? KindOf(string text)
    {
        foreach (var kind in Enum.GetValues<CredentialKind>())
        {
            if (text.StartsWith(PrefixOf(kind), StringComparison.Ordinal) && Base64Url.IsValid(text.AsSpan(PrefixOf(kind).Length), out var length) && length == NumBytes)
            {
                return kind;
            }
        }

        return null;
    }

    public static string Hash(string text) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)));

    private static string PrefixOf(CredentialKind kind) => kind switch
    {
        CredentialKind.Token => "fdt_",
        CredentialKind.Link => "fdl_",
        _ => "fds_",
    };
}
