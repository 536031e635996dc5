namespace FastDraft.Core.Security;

/// <summary>Secrets that guard nothing: what servers are shipped with, what tutorials use, and what is short enough to be tried.</summary>
public static class WeakSecret
{
    public const int Shortest = 8;

    private static readonly string[] Known = ["minioadmin", "minio123", "password", "password1234", "changeme", "change-me", "secretkey", "12345678", "postgres", "fastdraft", "admin", "administrator"];

    public static bool Is(string? secret) => secret is null || secret.Length < Shortest || IsKnown(secret);

    public static bool IsKnown(string text) => Known.Contains(text, StringComparer.OrdinalIgnoreCase);
}
