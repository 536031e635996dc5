namespace FastDraft.Modeling.Checkpoints;

/// <summary>A checkpoint is damaged, unsafe or unsupported; <see cref="Hint"/> says what to try.</summary>
public sealed class CheckpointException(string message, string? hint = null) : Exception(message)
{
    public string? Hint { get; } = hint;
}
