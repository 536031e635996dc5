namespace FastDraft.Server.Definitions;

/// <summary>What a person means by a workflow at the command line: a file, or the id or name of a published workflow.</summary>
/// <param name="Source">The file's path, or the workflow's name: what messages call it.</param>
public sealed record WorkflowReference(string Source, string Json)
{
    /// <exception cref="DefinitionRefusedException">There is no such file or published workflow, or several have that name.</exception>
    public static async Task<WorkflowReference> ResolveAsync(string reference, DefinitionStore definitions, CancellationToken ct = default)
    {
        if (File.Exists(reference))
        {
            return new WorkflowReference(reference, await File.ReadAllTextAsync(reference, ct));
        }

        if (await definitions.FindPublishedAsync(reference, ct) is { } published)
        {
            return new WorkflowReference(published.Head.Name, published.ToDocument().ToJsonString());
        }

        var all = await definitions.ListAsync(VersionSelection.Published, ct);
        var named = all.Where(h => h.Name.Equals(reference, StringComparison.OrdinalIgnoreCase)).ToList();
        if (named.Count == 1)
        {
            return await ResolveAsync(named[0].DefinitionId, definitions, ct);
        }

        throw named.Count > 1
            ? new DefinitionRefusedException(Refusal.NotFound, [$"Several workflows are named '{reference}': {string.Join(", ", named.Select(h => h.DefinitionId))}."])
            : new DefinitionRefusedException(
                Refusal.NotFound, [$"'{reference}' is neither a file nor a published workflow. There are: {string.Join(", ", all.Take(20).Select(h => h.DefinitionId))}."]);
    }
}
