namespace FastDraft.Export;

/// <summary>An export that was asked for and cannot be: what, where and why; <see cref="Hint"/> says what to try.</summary>
public sealed class ExportException(string message, string? hint = null, Exception? inner = null) : Exception(message, inner)
{
    public string? Hint { get; } = hint;
}
