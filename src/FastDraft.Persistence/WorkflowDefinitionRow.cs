namespace FastDraft.Persistence;

/// <summary>
/// One version of a workflow that was made in the browser or pushed by the CLI. A published version is immutable; at most one
/// version of a definition is the latest, and at most one is published.
/// </summary>
public sealed class WorkflowDefinitionRow
{
    public string Id { get; set; } = "";
    public string DefinitionId { get; set; } = "";
    public int Version { get; set; }
    public string Name { get; set; } = "";
    public string? Description { get; set; }

    /// <summary>The definition as it was saved. The flags beside it are columns, and the columns are right.</summary>
    public string Json { get; set; } = "";
    public bool IsLatest { get; set; }
    public bool IsPublished { get; set; }
    public long CreatedAt { get; set; }
}
