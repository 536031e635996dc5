using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server.Definitions;
using FastDraft.Stages;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Tests.Definitions;

public abstract class DefinitionStoreFacts(TestDatabase database) : IAsyncLifetime
{
    private readonly TestFolder folder = new();
    private PipelineStore? store;
    private DefinitionStore definitions = null!;

    public async ValueTask InitializeAsync()
    {
        store = await PipelineStore.OpenAsync(folder.Path, await TestDatabases.NewAsync(database));
        definitions = new DefinitionStore(store, Options());
    }

    public async ValueTask DisposeAsync()
    {
        if (store is not null)
        {
            await store.DisposeAsync();
        }

        folder.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task Saving_a_draft_changes_it_in_place()
    {
        var first = await definitions.SaveAsync(Model("a", "1"), publish: false);
        var second = await definitions.SaveAsync(Model("a", "2"), publish: false);

        Assert.Equal((first.Head.Id, 1), (second.Head.Id, second.Head.Version));
        Assert.Contains("\"2\"", second.Json, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Saving_after_publishing_starts_a_new_draft_and_leaves_the_published_version_as_it_was()
    {
        var published = await definitions.SaveAsync(Model("a", "1"), publish: true);
        var draft = await definitions.SaveAsync(Model("a", "2"), publish: false);

        Assert.Equal((2, true, false), (draft.Head.Version, draft.Head.IsLatest, draft.Head.IsPublished));
        var still = (await definitions.FindPublishedAsync("a"))!;
        Assert.Equal((published.Head.Id, false, true, published.Json), (still.Head.Id, still.Head.IsLatest, still.Head.IsPublished, still.Json));
    }

    [Fact]
    public async Task Publishing_a_draft_takes_the_place_of_the_version_published_before()
    {
        await definitions.SaveAsync(Model("a", "1"), publish: true);
        await definitions.SaveAsync(Model("a", "2"), publish: false);
        var (published, already) = await definitions.PublishAsync("a");

        Assert.False(already);
        Assert.Equal((2, true, true), (published.Head.Version, published.Head.IsLatest, published.Head.IsPublished));
        Assert.Equal([(2, true, true), (1, false, false)], await VersionsAsync("a"));
    }

    [Fact]
    public async Task Retracting_leaves_no_published_version()
    {
        await definitions.SaveAsync(Model("a", "1"), publish: true);
        await definitions.RetractAsync("a");

        Assert.Null(await definitions.FindPublishedAsync("a"));
        Assert.Equal([(1, true, false)], await VersionsAsync("a"));
    }

    [Fact]
    public async Task Reverting_makes_the_earlier_content_the_draft()
    {
        var first = await definitions.SaveAsync(Model("a", "1"), publish: true);
        await definitions.SaveAsync(Model("a", "2"), publish: true);
        var draft = await definitions.RevertAsync("a", 1);

        Assert.Equal(3, draft.Head.Version);
        Assert.Equal(first.Parse().Digest, draft.Parse().Digest);
    }

    [Fact]
    public async Task Deleting_the_latest_version_makes_the_highest_remaining_one_the_latest()
    {
        await definitions.SaveAsync(Model("a", "1"), publish: true);
        var draft = await definitions.SaveAsync(Model("a", "2"), publish: false);

        Assert.True(await definitions.DeleteVersionAsync(draft.Head.Id));
        Assert.Equal([(1, true, true)], await VersionsAsync("a"));
    }

    [Fact]
    public async Task A_draft_with_mistakes_is_kept_and_not_published()
    {
        var model = Model("a", "1");
        model["root"]!["activities"]![0]!["type"] = "Elsa.WriteLne";

        var refused = await Assert.ThrowsAsync<DefinitionRefusedException>(() => definitions.SaveAsync(model, publish: true));
        Assert.Contains("did you mean 'Elsa.WriteLine'?", Assert.Single(refused.Errors), StringComparison.Ordinal);
        Assert.Equal([(1, true, false)], await VersionsAsync("a"));
    }

    [Fact]
    public async Task A_hundred_interleaved_publications_leave_a_hundred_versions()
    {
        await Task.WhenAll(Enumerable.Range(0, 100).Select(i => Task.Run(() => definitions.SaveAsync(Model("a", $"text {i}"), publish: true))));

        var versions = await VersionsAsync("a");
        Assert.Equal(Enumerable.Range(1, 100).Reverse(), versions.Select(v => v.Version));
        Assert.Equal((100, true, true), versions[0]);
        Assert.All(versions.Skip(1), v => Assert.Equal((false, false), (v.Latest, v.Published)));
        var texts = new List<string>();
        foreach (var version in versions)
        {
            texts.Add((await definitions.FindAsync("a", VersionSelection.Exactly(version.Version)))!.Json);
        }

        Assert.All(Enumerable.Range(0, 100), i => Assert.Single(texts, t => t.Contains($"\"text {i}\"", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task A_new_workflow_gets_a_readable_id_of_its_own()
    {
        var model = Model("", "1");
        model["name"] = "My draft / for Llama!";

        Assert.Equal("my-draft-for-llama", (await definitions.SaveAsync(model, publish: false)).Head.DefinitionId);
        Assert.Equal("my-draft-for-llama-2", (await definitions.SaveAsync(model, publish: false)).Head.DefinitionId);
    }

    [Fact]
    public async Task Workflow_files_are_listed_and_cannot_be_changed()
    {
        var quickstart = (await definitions.FindPublishedAsync("quickstart"))!;

        Assert.True(quickstart.Head.IsReadOnly);
        await Assert.ThrowsAsync<DefinitionRefusedException>(() => definitions.SaveAsync(quickstart.ToDocument(), publish: false));
        await Assert.ThrowsAsync<DefinitionRefusedException>(() => definitions.PublishAsync("quickstart"));
        await Assert.ThrowsAsync<DefinitionRefusedException>(() => definitions.DeleteAsync("quickstart"));
    }

    [Fact]
    public async Task A_stored_definition_means_what_its_file_means_and_keeps_what_nobody_here_knows()
    {
        foreach (var file in Directory.EnumerateFiles(Path.Combine(TestFolder.Repository, "workflows"), "*.json"))
        {
            var text = await File.ReadAllTextAsync(file);
            var model = JsonNode.Parse(text)!.AsObject();
            var original = WorkflowDefinition.Parse(text);
            model["definitionId"] = "copy-of-" + original.DefinitionId;
            var expected = WorkflowDefinition.Parse(model.ToJsonString()).Digest;
            model["root"]!["activities"]![0]!["x-note"] = "kept";
            model["x-owner"] = "kept";

            var saved = await definitions.SaveAsync(model, publish: false);
            Assert.Equal("kept", (string?)saved.ToDocument()["root"]!["activities"]![0]!["x-note"]);
            Assert.Equal(original.Inputs.Select(i => i.Default?.ToJsonString()), saved.Parse().Inputs.Select(i => i.Default?.ToJsonString()));

            // What the designer does not know does not come back from it.
            var known = saved.ToDocument();
            known.Remove("x-owner");
            known["root"]!["activities"]![0]!.AsObject().Remove("x-note");
            var again = await definitions.SaveAsync(known, publish: false);
            Assert.Equal("kept", (string?)again.ToDocument()["x-owner"]);
            Assert.Equal(expected, again.Parse().Digest);
        }
    }

    private async Task<List<(int Version, bool Latest, bool Published)>> VersionsAsync(string id) =>
        [.. (await definitions.ListAsync(VersionSelection.All)).Where(h => h.DefinitionId == id).Select(h => (h.Version, h.IsLatest, h.IsPublished))];

    protected PipelineOptions Options() => new()
    {
        DataFolder = folder.Path,
        WorkerFile = "none",
        Stages = BuiltinStages.Descriptors,
        WorkflowFolder = Path.Combine(TestFolder.Repository, "workflows"),
    };

    protected static JsonObject Model(string id, string text) => JsonNode.Parse($$"""
        { "definitionId": "{{id}}", "name": "{{(id.Length == 0 ? "x" : id)}}", "root": { "id": "Flowchart1", "type": "Elsa.Flowchart", "version": 1, "activities": [
          { "id": "write", "type": "Elsa.WriteLine", "version": 1, "text": { "typeName": "String", "expression": { "type": "Literal", "value": "{{text}}" } } } ], "connections": [] } }
        """)!.AsObject();
}

public sealed class SqliteDefinitionStoreFacts() : DefinitionStoreFacts(TestDatabase.Sqlite);

public sealed class PostgreSqlDefinitionStoreFacts() : DefinitionStoreFacts(TestDatabase.PostgreSql)
{
    [Fact]
    public async Task Changes_that_wait_for_those_of_another_server_leave_connections_to_readers()
    {
        const int numConnections = 3;
        using var folder = new TestFolder();
        var connection = (await TestDatabases.NewAsync(TestDatabase.PostgreSql)).Database;
        await using var store = await PipelineStore.OpenAsync(folder.Path, new PipelineSettings { Database = $"{connection};Maximum Pool Size={numConnections}" });
        var definitions = new DefinitionStore(store, Options());

        await using var other = PipelineDatabase.Of(connection, folder.Path).Open();
        await using var changing = await other.Database.BeginTransactionAsync();
        await other.Database.ExecuteSqlRawAsync("SELECT pg_advisory_xact_lock(hashtextextended('workflow_definitions', 0))");
        var saves = Enumerable.Range(0, 5 * numConnections).Select(i => definitions.SaveAsync(Model("a", $"text {i}"), publish: true)).ToArray();
        Assert.Null(await definitions.FindAsync("a", VersionSelection.Latest));

        await changing.CommitAsync();
        await Task.WhenAll(saves);
        Assert.Equal(5 * numConnections, (await definitions.FindAsync("a", VersionSelection.Latest))!.Head.Version);
    }
}
