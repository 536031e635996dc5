namespace FastDraft.Server.Definitions;

public enum Refusal
{
    NotFound,

    /// <summary>The definition has mistakes, each of which is in <see cref="DefinitionRefusedException.Errors"/>.</summary>
    Invalid,

    /// <summary>It ships with the pipeline and can only be copied.</summary>
    ReadOnly,
}

/// <summary>What a person asked of a definition cannot be done; every reason at once.</summary>
public sealed class DefinitionRefusedException(Refusal refusal, IReadOnlyList<string> errors) : Exception(string.Join("\n", errors))
{
    public Refusal Refusal { get; } = refusal;

    public IReadOnlyList<string> Errors { get; } = errors;

    public static DefinitionRefusedException NotFound(string what) => new(Refusal.NotFound, [$"There is no workflow '{what}'."]);

    public static DefinitionRefusedException ReadOnly(string definitionId) => new(
        Refusal.ReadOnly, [$"'{definitionId}' ships with the pipeline and cannot be changed. Duplicate it and change the copy."]);
}
