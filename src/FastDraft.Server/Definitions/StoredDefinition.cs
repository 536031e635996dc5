using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;

namespace FastDraft.Server.Definitions;

/// <summary>What a list says of one version of a workflow. <see cref="IsReadOnly"/>: it ships with the pipeline as a file.</summary>
public sealed record DefinitionHead(
    string Id, string DefinitionId, int Version, string Name, string? Description, bool IsLatest, bool IsPublished, bool IsReadOnly, DateTimeOffset CreatedAt);

/// <summary>
/// One version of a workflow. <see cref="Json"/> may be anything: a row that was damaged must not take the list down with it.
/// </summary>
public sealed record StoredDefinition(DefinitionHead Head, string Json)
{
    /// <exception cref="WorkflowFormatException">The stored text is no workflow definition.</exception>
    public WorkflowDefinition Parse() => WorkflowDefinition.Parse(ToDocument().ToJsonString());

    /// <summary>Why the stored text is no workflow definition; null where it is one.</summary>
    public string? WhyUnreadable()
    {
        try
        {
            Parse();
            return null;
        }
        catch (WorkflowFormatException e)
        {
            return e.Message;
        }
    }

    /// <summary>The definition with the identity, version and flags that its row has.</summary>
    /// <exception cref="WorkflowFormatException">The stored text is no workflow definition.</exception>
    public JsonObject ToDocument()
    {
        var document = DefinitionDocument.WithNodeIds(Json);
        DefinitionDocument.Stamp(document, Head);
        return document;
    }
}
