using FastDraft.Core.Artifacts;
using FastDraft.Core.Lineage;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Persistence.Lineage;
using FastDraft.Server;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Durability.Tests;

/// <summary>
/// Two runs: the first reads a corpus of two files and trains a draft; the second takes both from the cache and fine-tunes, which is
/// registered as champion. What made it, and what breaks, is told across both.
/// </summary>
public abstract class LineageFacts(TestDatabase database) : IAsyncLifetime
{
    private const string Sources = "setting:sources";
    private readonly TestPipeline pipeline = new(database);
    private readonly Guid firstRun = Guid.CreateVersion7();
    private readonly Guid secondRun = Guid.CreateVersion7();
    private PipelineStore store = null!;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    public async ValueTask InitializeAsync()
    {
        store = await pipeline.OpenAsync();
        await using var db = store.Open();
        foreach (var run in new[] { firstRun, secondRun })
        {
            db.Runs.Add(new RunRow { Id = run, WorkflowName = "train", State = RunState.Succeeded, CreatedAt = 1 });
        }

        db.ExternalFiles.AddRange(
            new ExternalFileRow { Digest = D("sources"), Path = "/corpus/a.jsonl", FileDigest = D("a"), SizeBytes = 10 },
            new ExternalFileRow { Digest = D("sources"), Path = "/corpus/b.jsonl", FileDigest = D("b"), SizeBytes = 20 });
        Add(db, firstRun, "ingest", "IngestCorpus", [(Sources, "path", "sources")], [("corpus", ArtifactKind.Corpus, "corpus")], """{"sources":["/corpus"]}""");
        Add(db, firstRun, "pretrain", "PretrainDraft", [("corpus", ArtifactKind.Corpus, "corpus"), ("setting:target", "path", "target")], [("draft", ArtifactKind.Model, "draft")]);
        Add(db, secondRun, "ingest", "IngestCorpus", [(Sources, "path", "sources")], [("corpus", ArtifactKind.Corpus, "corpus")], cachedFrom: firstRun);
        Add(db, secondRun, "pretrain", "PretrainDraft", [("corpus", ArtifactKind.Corpus, "corpus"), ("setting:target", "path", "target")], [("draft", ArtifactKind.Model, "draft")], cachedFrom: firstRun);
        Add(db, secondRun, "finetune", "FinetuneDraft", [("draft", ArtifactKind.Model, "draft"), ("corpus", ArtifactKind.Corpus, "corpus"), ("setting:target", "path", "target")], [("draft", ArtifactKind.Model, "tuned")]);
        Add(db, secondRun, "broken", "ExportDraft", [("draft", ArtifactKind.Model, "tuned")], [], state: StageRunState.Failed);
        db.Drafts.AddRange(
            new DraftRow { Id = Guid.CreateVersion7(), Name = "docs", Version = 1, TargetDigest = D("target"), ModelDigest = D("draft"), RunId = firstRun },
            new DraftRow { Id = Guid.CreateVersion7(), Name = "docs", Version = 2, TargetDigest = D("target"), ModelDigest = D("tuned"), RunId = secondRun },
            new DraftRow { Id = Guid.CreateVersion7(), Name = "other", Version = 1, TargetDigest = D("elsewhere"), ModelDigest = D("stranger"), RunId = firstRun });
        db.DraftAliases.Add(new DraftAliasRow { Name = "docs", TargetDigest = D("target"), Alias = "champion", Version = 2 });
        await db.SaveChangesAsync(Ct);
    }

    public async ValueTask DisposeAsync()
    {
        await store.DisposeAsync();
        pipeline.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task What_made_a_draft_names_every_stage_run_that_did_the_work_and_each_file_outside()
    {
        var made = await AskAsync("tuned", LineageDirection.Upstream);
        Assert.Equal(["FinetuneDraft", "IngestCorpus", "PretrainDraft"], made.Nodes.Where(n => n.Kind == "stage").Select(n => n.Label).Order());
        Assert.Equal(new[] { "corpus", "draft", "sources", "target", "tuned" }.Select(D).Order(), made.Nodes.Where(n => n.Kind != "stage").Select(n => n.Id).Order());
        var ingest = made.Nodes.Single(n => n.Label == "IngestCorpus").Stage!;
        Assert.Equal((firstRun, "train", "ingest"), (ingest.RunId, ingest.Workflow, ingest.ActivityId));
        Assert.Equal("""["/corpus"]""", ingest.Settings["sources"]);
        Assert.Equal(["/corpus/a.jsonl", "/corpus/b.jsonl"], made.Nodes.Single(n => n.Id == D("sources")).Files!.Select(f => f.Path));
        Assert.Empty(made.Drafts);
    }

    [Theory]
    [InlineData("corpus")]
    [InlineData("sources")]
    [InlineData("a")]
    public async Task What_breaks_is_told_with_registered_drafts_first_across_runs(string start)
    {
        var broken = await AskAsync(start, LineageDirection.Downstream);
        Assert.Equal([("docs", 2, "champion"), ("docs", 1, "")], broken.Drafts.Select(d => (d.Name, d.Version, string.Join(',', d.Aliases))));
        Assert.Contains(broken.Nodes, n => n.Id == D("tuned"));
        Assert.DoesNotContain(broken.Nodes, n => n.Id == D("target"));
        Assert.Equal(start == "corpus" ? 2 : 3, broken.NumStageRuns);
    }

    [Fact]
    public async Task A_withdrawn_target_breaks_the_drafts_that_are_registered_for_it() =>
        Assert.Equal([2, 1], (await AskAsync("target", LineageDirection.Downstream)).Drafts.Select(d => d.Version));

    [Fact]
    public async Task Depth_and_limit_cut_the_answer_and_say_so()
    {
        var near = await store.Queries.LineageAsync(new LineageQuery(D("tuned"), LineageDirection.Upstream, Depth: 1), Ct);
        Assert.Equal(["FinetuneDraft"], near.Nodes.Where(n => n.Kind == "stage").Select(n => n.Label));
        Assert.Equal(0, near.NumOmitted);
        var few = await store.Queries.LineageAsync(new LineageQuery(D("tuned"), LineageDirection.Upstream, Limit: 3), Ct);
        Assert.Equal((3, 5), (few.Nodes.Count, few.NumOmitted));
        Assert.Equal(few.NumArtifacts + few.NumStageRuns, few.Nodes.Count + few.NumOmitted);
        Assert.All(few.Edges, e => Assert.Contains(few.Nodes, n => n.Id == e.From));
    }

    [Fact]
    public async Task A_thing_is_found_by_a_prefix_of_its_digest_or_by_where_it_lay()
    {
        Assert.Equal(D("tuned"), await store.Queries.FindLineageAsync(D("tuned"), Ct));
        Assert.Equal(D("sources"), await store.Queries.FindLineageAsync(D("sources")["sha256:".Length..20], Ct));
        Assert.Equal(D("a"), await store.Queries.FindLineageAsync("/corpus/a.jsonl", Ct));
        Assert.Null(await store.Queries.FindLineageAsync("/corpus/c.jsonl", Ct));
        await Assert.ThrowsAsync<AmbiguousReferenceException>(() => store.Queries.FindLineageAsync("sha256:", Ct));
    }

    [Fact]
    public async Task A_level_is_three_queries_however_wide_it_is_and_what_is_shared_counts_once()
    {
        const int Depth = 6;
        const int Width = 40;
        await using (var db = store.Open())
        {
            for (var level = 1; level < Depth; level++)
            {
                for (var i = 0; i < Width; i++)
                {
                    Add(
                        db, firstRun, $"{level}-{i}", "PretrainDraft",
                        [.. new[] { i, (i * 3) + 1, (i * 7) + 2 }.Select(n => n % Width).Distinct().Select(n => ($"in{n}", ArtifactKind.Model, $"w{level - 1}-{n}"))],
                        [("draft", ArtifactKind.Model, $"w{level}-{i}")]);
                }
            }

            await db.SaveChangesAsync(Ct);
        }

        var commands = 0;
        var counted = new DbContextOptionsBuilder<PipelineDbContext>(store.Database.Options).LogTo((id, _) => id.Name == "Microsoft.EntityFrameworkCore.Database.Command.CommandExecuted", _ => commands++).Options;
        await using var counting = new PipelineDbContext(counted);
        var view = await new LineageReader(counting).ReadAsync(new LineageQuery(D($"w{Depth - 1}-0"), LineageDirection.Upstream), Ct);
        Assert.InRange(view.NumArtifacts, Width, Depth * Width);
        Assert.Equal(view.Nodes.Count, view.Nodes.Select(n => n.Id).Distinct().Count());
        Assert.InRange(commands, Depth, (3 * Depth) + 5);
    }

    [Fact]
    public async Task A_cycle_ends()
    {
        await using (var db = store.Open())
        {
            Add(db, firstRun, "loop", "ExportDraft", [("draft", ArtifactKind.Model, "tuned")], [("model", ArtifactKind.Model, "draft")]);
            await db.SaveChangesAsync(Ct);
        }

        Assert.Contains((await AskAsync("tuned", LineageDirection.Upstream)).Edges, e => e.From == D("tuned"));
        Assert.Contains((await AskAsync("draft", LineageDirection.Downstream)).Edges, e => e.To == D("draft"));
    }

    private Task<LineageView> AskAsync(string name, LineageDirection direction) => store.Queries.LineageAsync(new LineageQuery(D(name), direction), Ct);

    private static void Add(
        PipelineDbContext db, Guid run, string activity, string stage, IReadOnlyList<(string Port, string Kind, string Name)> inputs, IReadOnlyList<(string Port, string Kind, string Name)> outputs,
        string settings = "{}", Guid? cachedFrom = null, StageRunState state = StageRunState.Succeeded)
    {
        var row = new StageRunRow
        {
            Id = Guid.CreateVersion7(), RunId = run, ActivityInstanceId = activity + "#1", ActivityId = activity, Stage = stage, StageVersion = 1, SettingsJson = settings,
            State = cachedFrom is null ? state : StageRunState.Cached, CachedFromRunId = cachedFrom, CreatedAt = 1, EndedAt = 2,
        };
        db.StageRuns.Add(row);
        db.Ports.AddRange(inputs.Select(p => new StageRunPortRow { StageRunId = row.Id, Port = p.Port, Kind = p.Kind, Digest = D(p.Name), External = p.Kind == "path" }));
        foreach (var (port, kind, name) in outputs)
        {
            db.Ports.Add(new StageRunPortRow { StageRunId = row.Id, IsOutput = true, Port = port, Kind = kind, Digest = D(name) });
            if (db.Artifacts.Local.All(a => a.Digest != D(name)) && !db.Artifacts.Any(a => a.Digest == D(name)))
            {
                db.Artifacts.Add(new ArtifactRow { Digest = D(name), Kind = kind, SizeBytes = 1, NumFiles = 1, CreatedAt = 1, StageRunId = row.Id });
            }
        }
    }

    private static string D(string name) => Digest.OfBytes(System.Text.Encoding.UTF8.GetBytes(name)).ToString();
}

public sealed class SqliteLineageFacts() : LineageFacts(TestDatabase.Sqlite);

public sealed class PostgreSqlLineageFacts() : LineageFacts(TestDatabase.PostgreSql);
