using System.Diagnostics;
using System.Globalization;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Lineage;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Persistence.Lineage;
using FastDraft.Server;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Benchmarks;

/// <summary>
/// How long the lineage of one artifact among many takes, both ways. Artifacts lie in levels; each is made of three of the level below in
/// its family, so that ancestors are shared and most of a family is reached. The lowest level reads one corpus file a family.
/// Usage: lineage [artifacts=100000] [depth=20] [families=5]
/// </summary>
internal static class LineageTime
{
    private const int Runs = 15;
    private const int FanIn = 3;
    private const int RowsOfAWrite = 20_000;

    public static async Task<int> RunAsync(string[] args)
    {
        int Option(int index, int fallback) => args.Length > index ? int.Parse(args[index], CultureInfo.InvariantCulture) : fallback;
        var (count, depth, families) = (Option(0, 100_000), Option(1, 20), Option(2, 5));
        var width = count / depth / families;
        var folder = Directory.CreateTempSubdirectory("fastdraft-lineage-").FullName;
        try
        {
            var settings = PipelineSettings.FromEnvironment();
            await using var store = await PipelineStore.OpenAsync(folder, settings);
            var database = PipelineStore.DatabaseOf(folder, settings);
            await FillAsync(database, depth, families, width);
            Console.WriteLine($"{database.Name[4..]}: {width * depth * families:N0} artifacts in {depth} levels of {families} families, each made of {FanIn}");
            await MeasureAsync(store, "upstream from the last level", new LineageQuery(Name(0, depth - 1, 0), LineageDirection.Upstream));
            await MeasureAsync(store, "downstream from the first level", new LineageQuery(Name(0, 0, 0), LineageDirection.Downstream));
            await MeasureAsync(store, "downstream from a corpus file", new LineageQuery(Name("file", 0), LineageDirection.Downstream));
            return 0;
        }
        finally
        {
            Microsoft.Data.Sqlite.SqliteConnection.ClearAllPools();
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task MeasureAsync(PipelineStore store, string what, LineageQuery query)
    {
        // The first one compiles the queries, and is told apart: it is what a command line waits for.
        var times = new List<double>();
        LineageView? view = null;
        for (var run = 0; run <= Runs; run++)
        {
            var started = Stopwatch.GetTimestamp();
            view = await store.Queries.LineageAsync(query);
            times.Add(Stopwatch.GetElapsedTime(started).TotalMilliseconds);
        }

        var warm = times.Skip(1).Order().ToList();
        Console.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"{what}: {view!.NumArtifacts:N0} artifacts, {view.NumStageRuns:N0} stage runs, {view.Drafts.Count} drafts reached, {view.Nodes.Count:N0} described: first {times[0]:F0}, median {warm[Runs / 2]:F0}, longest {warm[^1]:F0} ms"));
    }

    private static async Task FillAsync(PipelineDatabase database, int depth, int families, int width)
    {
        var run = new RunRow { Id = Guid.CreateVersion7(), WorkflowName = "benchmark", State = RunState.Succeeded, CreatedAt = 1, EndedAt = 2 };
        await WriteAsync(database, [run]);
        var rows = new List<object>();
        for (var family = 0; family < families; family++)
        {
            rows.Add(new ExternalFileRow { Digest = Name("corpus", family), Path = $"/data/corpus-{family}.jsonl", FileDigest = Name("file", family), SizeBytes = 1 });
            for (var level = 0; level < depth; level++)
            {
                for (var i = 0; i < width; i++)
                {
                    var (stage, made) = (Guid.CreateVersion7(), Name(family, level, i));
                    rows.Add(new StageRunRow
                    {
                        Id = stage, RunId = run.Id, ActivityInstanceId = made, ActivityId = $"level-{level}", Stage = "PretrainDraft", StageVersion = 1, State = StageRunState.Succeeded,
                        SettingsJson = """{"learningRate":0.001,"batchSize":16,"numTokens":1000000,"seed":1}""", KeyDigest = made, CreatedAt = 1, StartedAt = 1, EndedAt = level + 1,
                    });
                    rows.Add(new ArtifactRow { Digest = made, Kind = ArtifactKind.Model, SizeBytes = 1, NumFiles = 1, CreatedAt = 1, StageRunId = stage });
                    rows.Add(new StageRunPortRow { StageRunId = stage, IsOutput = true, Port = "draft", Kind = ArtifactKind.Model, Digest = made });
                    if (level == 0)
                    {
                        rows.Add(new StageRunPortRow { StageRunId = stage, Port = "setting:sources", Kind = "path", Digest = Name("corpus", family), External = true });
                    }

                    foreach (var below in Enumerable.Range(0, level == 0 ? 0 : FanIn).Select(n => ((i * ((2 * n) + 1)) + (n * 17)) % width).Distinct())
                    {
                        rows.Add(new StageRunPortRow { StageRunId = stage, Port = $"in-{below}", Kind = ArtifactKind.Model, Digest = Name(family, level - 1, below) });
                    }

                    if (rows.Count >= RowsOfAWrite)
                    {
                        await WriteAsync(database, rows);
                        rows.Clear();
                    }
                }
            }

            rows.Add(new DraftRow { Id = Guid.CreateVersion7(), Name = $"draft-{family}", Version = 1, TargetDigest = Name("target", family), ModelDigest = Name(family, depth - 1, 0), RunId = run.Id });
            rows.Add(new DraftAliasRow { Name = $"draft-{family}", TargetDigest = Name("target", family), Alias = "champion", Version = 1 });
        }

        await WriteAsync(database, rows);
    }

    private static async Task WriteAsync(PipelineDatabase database, IReadOnlyList<object> rows)
    {
        await using var db = database.Open();
        db.ChangeTracker.AutoDetectChangesEnabled = false;
        db.AddRange(rows);
        await db.SaveChangesAsync();
    }

    private static string Name(int family, int level, int i) => Name($"artifact {family} {level}", i);

    private static string Name(string what, int i) => Digest.OfBytes(System.Text.Encoding.UTF8.GetBytes($"{what} {i}")).ToString();
}
