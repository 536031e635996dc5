namespace FastDraft.Modeling.Checkpoints;

/// <summary>A model folder or weight file that cannot be read: what, where and what to try.</summary>
public sealed class CheckpointException(string message, string? hint = null, Exception? inner = null) : Exception(message, inner)
{
    public string? Hint { get; } = hint;
}
