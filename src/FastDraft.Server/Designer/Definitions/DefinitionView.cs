using System.Text.Json.Nodes;
using FastDraft.Server.Definitions;

namespace FastDraft.Server.Designer.Definitions;

/// <summary>What may be done with something; the designer offers what is linked and nothing else.</summary>
internal sealed record Link(string Href, string Rel, string Method);

internal sealed record DefinitionSummary(
    string Id, string DefinitionId, string Name, string? Description, int Version, bool IsLatest, bool IsPublished, bool IsReadonly, DateTimeOffset CreatedAt, IReadOnlyList<Link> Links)
{
    public string MaterializerName => "Json";

    public bool IsMaterializerAvailable => true;

    public static DefinitionSummary Of(DefinitionHead head, string? unreadable = null) => new(
        head.Id, head.DefinitionId, head.Name, unreadable is null ? head.Description : "Cannot be read: " + unreadable, head.Version, head.IsLatest, head.IsPublished, head.IsReadOnly,
        head.CreatedAt, DefinitionLinks.Of(head));
}

internal sealed record SaveResponse(JsonObject WorkflowDefinition, bool AlreadyPublished)
{
    public int ConsumingWorkflowCount => 0;
}

/// <summary>A definition as the designer reads it: every list is there, even where it is empty.</summary>
internal static class DefinitionView
{
    public static JsonObject Of(StoredDefinition definition)
    {
        var document = definition.ToDocument();
        foreach (var list in (string[])["variables", "inputs", "outputs", "outcomes"])
        {
            document[list] ??= new JsonArray();
        }

        foreach (var members in (string[])["customProperties", "options"])
        {
            document[members] ??= new JsonObject();
        }

        document["materializerName"] = "Json";
        document["links"] = new JsonArray([.. DefinitionLinks.Of(definition.Head).Select(l => new JsonObject { ["href"] = l.Href, ["rel"] = l.Rel, ["method"] = l.Method })]);
        return document;
    }
}

internal static class DefinitionLinks
{
    private const string Root = "/workflow-definitions";

    /// <summary>Without <c>publish</c> the designer shows a definition and does not let it be changed.</summary>
    public static IReadOnlyList<Link> Of(DefinitionHead head)
    {
        var one = $"{Root}/{head.DefinitionId}";
        Link[] always =
        [
            new($"{Root}/by-definition-id/{head.DefinitionId}", "self", "GET"), new(one + "/versions", "versions", "GET"), new(one + "/execute", "execute", "POST"),
            new(one + "/dispatch", "dispatch", "POST"), new(one + "/export", "export", "GET"),
        ];
        return head.IsReadOnly ? always
            : [.. always, new(one + "/publish", "publish", "POST"), new(one + "/retract", "retract", "POST"), new(one, "delete", "DELETE"), new(one + "/import", "import", "PUT")];
    }

    public static IReadOnlyList<Link> OfList { get; } =
    [
        new(Root, "self", "GET"), new(Root, "create", "POST"), new(Root + "/validation/is-name-unique", "is-name-unique", "GET"), new(Root + "/query/count", "count", "GET"),
        new(Root + "/many-by-id", "many-by-id", "GET"), new("/bulk-actions/delete/workflow-definitions/by-definition-id", "bulk-delete-by-definition-id", "POST"),
        new("/bulk-actions/delete/workflow-definitions/by-id", "bulk-delete-by-id", "POST"), new("/bulk-actions/publish/workflow-definitions/by-definition-ids", "bulk-publish", "POST"),
        new("/bulk-actions/retract/workflow-definitions/by-definition-ids", "bulk-retract", "POST"), new(Root + "/import", "import", "POST"), new(Root + "/import-files", "import-files", "POST"),
    ];
}
