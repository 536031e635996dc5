using System.CommandLine;
using FastDraft.Cli;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using FastDraft.Server;

namespace FastDraft.Conventions.Tests;

/// <summary>Every command that changes something leaves a row in the audit. The commands are those that there are: one that is added without a line here fails.</summary>
public sealed class AuditedCommandFacts : IAsyncLifetime
{
    private const string Draft = "docs";

    private static readonly Dictionary<string, string> Reading = new()
    {
        ["artifacts card"] = "reads", ["artifacts list"] = "reads", ["artifacts provenance"] = "reads", ["artifacts show"] = "reads", ["artifacts verify"] = "reads",
        ["audit list"] = "reads", ["audit verify"] = "reads", ["backup"] = "copies, changes nothing", ["cache list"] = "reads", ["completion"] = "reads", ["doctor"] = "reads", ["export"] = "writes a folder of the user's own from another", ["gates list"] = "reads", ["gc"] = "writes a row for each collection that deletes something, and here none does",
        ["generate"] = "decodes with models of the user's own", ["help"] = "reads", ["lineage"] = "reads", ["models history"] = "reads", ["models list"] = "reads", ["models show"] = "reads",
        ["node"] = "works for runs that somebody else submitted", ["plan"] = "reads", ["projections list"] = "reads", ["reproduce"] = "works in a folder of its own and writes no row", ["runs compare"] = "reads",
        ["runs explain"] = "reads", ["runs list"] = "reads", ["runs logs"] = "reads", ["runs show"] = "reads", ["runs watch"] = "reads", ["schedule list"] = "reads", ["schedule next"] = "reads", ["token list"] = "reads",
        ["serve"] = "acts for its callers, whose acts are audited", ["workflow show"] = "reads", ["workflow validate"] = "reads",
    };

    /// <summary>The act that a command leaves a row of, and the command's arguments in the order that lets one follow the other.</summary>
    private static readonly (string Command, string Action, Func<AuditedCommandFacts, string[]> Arguments)[] Changing =
    [
        ("run", AuditAction.RunSubmitted, f => [f.Workflow]),
        ("runs retry", AuditAction.RunRetried, f => []),
        ("runs cancel", AuditAction.RunCancelled, f => [f.pending.ToString()]),
        ("schedule create", AuditAction.ScheduleCreated, f => ["nightly", f.Workflow, "--cron", "0 3 * * *"]),
        ("schedule pause", AuditAction.SchedulePaused, _ => ["nightly"]),
        ("schedule resume", AuditAction.ScheduleResumed, _ => ["nightly"]),
        ("schedule backfill", AuditAction.ScheduleBackfilled, _ => ["nightly", "2026-01-01T00:00Z", "2026-01-02T00:00Z"]),
        ("schedule delete", AuditAction.ScheduleDeleted, _ => ["nightly"]),
        ("gates approve", AuditAction.GateApproved, f => [$"{f.waiting}/yes"]),
        ("gates reject", AuditAction.GateRejected, f => [$"{f.waiting}/no"]),
        ("events publish", AuditAction.EventPublished, _ => ["data-arrived"]),
        ("models promote", AuditAction.DraftAliasMoved, _ => [Draft, "1", "--reason", "first"]),
        ("models alias", AuditAction.DraftAliasMoved, _ => [Draft, "champion", "2", "--reason", "better"]),
        ("models rollback", AuditAction.DraftAliasMoved, _ => [Draft, "--reason", "worse"]),
        ("projections retry", AuditAction.ProjectionRetried, _ => ["receiver"]),
        ("projections forget", AuditAction.ProjectionForgotten, _ => ["receiver"]),
        ("cache evict", AuditAction.CacheEvicted, _ => ["--all"]),
        ("artifacts pin", AuditAction.ArtifactPinned, f => [f.artifact, "--reason", "shipped"]),
        ("artifacts unpin", AuditAction.ArtifactUnpinned, f => [f.artifact]),
        ("token create", AuditAction.TokenCreated, _ => ["ci", "--role", "viewer"]),
        ("token revoke", AuditAction.TokenRevoked, _ => ["ci"]),
        ("artifacts get", AuditAction.ArtifactExported, f => [f.artifact, Path.Join(f.folder, "got")]),
    ];

    private readonly string folder = Directory.CreateTempSubdirectory("fastdraft-audited-").FullName;
    private readonly Guid pending = Guid.CreateVersion7();
    private readonly Guid waiting = Guid.CreateVersion7();
    private string artifact = "";

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    private string Data => Path.Join(folder, "data");

    private string Workflow => Path.Join(folder, "line.json");

    public async ValueTask InitializeAsync()
    {
        await File.WriteAllTextAsync(
            Workflow,
            """
            { "definitionId": "line", "name": "line", "version": 1, "root": { "id": "flow", "type": "Elsa.Flowchart", "activities": [
              { "id": "write", "type": "Elsa.WriteLine", "text": { "typeName": "String", "expression": { "type": "Literal", "value": "done" } } } ], "connections": [] } }
            """,
            Ct);
        var bytes = Directory.CreateDirectory(Path.Join(folder, "bytes")).FullName;
        await File.WriteAllTextAsync(Path.Join(bytes, "x"), "x", Ct);
        await using var store = await PipelineStore.OpenAsync(Data, ct: Ct);
        var (digest, manifest) = await store.Artifacts.PutFolderAsync(ArtifactKind.Corpus, bytes, Ct);
        artifact = digest.ToString();
        await using var db = PipelineStore.DatabaseOf(Data, new PipelineSettings()).Open();
        db.Artifacts.Add(new ArtifactRow { Digest = artifact, Kind = manifest.Kind, SizeBytes = 1, NumFiles = 1 });
        db.Runs.Add(new RunRow { Id = pending, WorkflowName = "line", DefinitionJson = "{}", StateJson = "{}", State = RunState.Running });
        db.Runs.Add(new RunRow { Id = waiting, WorkflowName = "line", DefinitionJson = "{}", StateJson = "{}", State = RunState.Running });
        db.Projections.Add(new ProjectionRow { Name = "receiver" });
        foreach (var gate in new[] { "yes", "no" })
        {
            db.Waits.Add(new WaitRow { Id = Guid.CreateVersion7(), RunId = waiting, ActivityInstanceId = gate + "#1", ActivityId = gate, Kind = WaitKind.Gate, Title = gate });
        }

        foreach (var version in new[] { 1, 2 })
        {
            db.Drafts.Add(new DraftRow { Id = Guid.CreateVersion7(), Name = Draft, Version = version, TargetDigest = "sha256:t", ModelDigest = $"sha256:m{version}", RunId = waiting });
        }

        await db.SaveChangesAsync(Ct);
    }

    public ValueTask DisposeAsync()
    {
        Microsoft.Data.Sqlite.SqliteConnection.ClearAllPools();
        Directory.Delete(folder, recursive: true);
        return ValueTask.CompletedTask;
    }

    [Fact]
    public void Every_command_is_listed()
    {
        using var interrupts = new Interrupts();
        var all = CommandLine.Build(interrupts).Subcommands.SelectMany(c => Leaves(c, c.Name)).ToHashSet();
        var listed = Changing.Select(c => c.Command).Concat(Reading.Keys).ToHashSet();
        Assert.Empty(all.Except(listed));
        Assert.Empty(listed.Except(all));
    }

    [Fact]
    public async Task A_command_that_changes_something_leaves_a_row_of_whose_process_it_was()
    {
        foreach (var (command, action, arguments) in Changing)
        {
            var before = (await ListAsync()).Select(r => r.Sequence).DefaultIfEmpty(0).First();
            using var interrupts = new Interrupts();
            string[] all = [.. command.Split(' '), .. arguments(this), "--data", Data];
            Assert.True(await CommandLine.Build(interrupts).Parse(all).InvokeAsync(cancellationToken: Ct) == 0, string.Join(' ', all));
            var row = (await ListAsync()).FirstOrDefault(r => r.Sequence > before && r.Action == action);
            Assert.True(row is not null, $"'{command}' left no row '{action}'.");
            Assert.Equal(Environment.UserName, row.Actor);
        }

        await using var store = await PipelineStore.OpenAsync(Data, ct: Ct);
        Assert.True((await store.Queries.VerifyAuditAsync(null, Ct)).IsIntact);
    }

    private async Task<IReadOnlyList<AuditView>> ListAsync()
    {
        await using var store = await PipelineStore.OpenAsync(Data, ct: Ct);
        return await store.Queries.AuditAsync(new AuditFilter(), Ct);
    }

    private static IEnumerable<string> Leaves(Command command, string path) =>
        command.Subcommands.Count == 0 ? [path] : command.Subcommands.SelectMany(c => Leaves(c, $"{path} {c.Name}"));
}
