using System.Text.Json.Nodes;
using FastDraft.Core.Runs;
using FastDraft.Persistence.Audit;
using FastDraft.Persistence.Lineage;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Persistence;

/// <summary>Questions that any process may ask while a host works, and the eviction of results from reuse.</summary>
public sealed class PipelineQueries(PipelineDatabase database, string logFolder)
{
    private readonly DbContextOptions<PipelineDbContext> options = database.Options;

    public async Task<IReadOnlyList<RunView>> ListRunsAsync(int limit = 50, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        var rows = await db.Runs.AsNoTracking().Where(r => r.DeletedAt == null).OrderByDescending(r => r.CreatedAt).Take(limit).ToListAsync(ct);
        return [.. rows.Select(r => View(r, []))];
    }

    /// <summary>A page of runs, the newest first: before one place, after another, or the first page.</summary>
    /// <param name="size">Runs of a page at most.</param>
    public async Task<ListedRuns> ListRunsAsync(RunFilter filter, RunCursor? olderThan, RunCursor? newerThan, int size, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        return await RunListing.PageAsync(db, filter, olderThan, newerThan, size, ct);
    }

    /// <summary>The names of the workflows that have runs.</summary>
    public async Task<IReadOnlyList<string>> WorkflowNamesAsync(CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        return await db.Runs.Where(r => r.DeletedAt == null).Select(r => r.WorkflowName).Distinct().OrderBy(n => n).ToListAsync(ct);
    }

    /// <summary>How many runs have not ended, and how many gates wait for a person.</summary>
    public async Task<NavCounts> NavCountsAsync(CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        return new NavCounts(
            await db.Runs.CountAsync(r => r.DeletedAt == null && (r.State == RunState.Pending || r.State == RunState.Running || r.State == RunState.Cancelling), ct),
            await db.Waits.CountAsync(w => w.Kind == WaitKind.Gate && w.DueAt == null && db.Runs.Any(r => r.Id == w.RunId && r.State == RunState.Running), ct));
    }

    public async Task<RunView?> GetRunAsync(Guid runId, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        var run = await db.Runs.AsNoTracking().SingleOrDefaultAsync(r => r.Id == runId, ct);
        if (run is null)
        {
            return null;
        }

        var stages = await db.StageRuns.AsNoTracking().Where(s => s.RunId == runId).OrderBy(s => s.CreatedAt).ToListAsync(ct);
        var ids = stages.Select(s => s.Id).ToList();
        var attempts = (await db.Attempts.AsNoTracking().Where(a => ids.Contains(a.StageRunId)).OrderBy(a => a.Number).ToListAsync(ct)).ToLookup(a => a.StageRunId);
        var ports = (await db.Ports.AsNoTracking().Where(p => ids.Contains(p.StageRunId)).OrderBy(p => p.Port).ToListAsync(ct)).ToLookup(p => p.StageRunId);
        return View(run, [.. stages.Select(s => new StageRunView(
            s.Id, s.ActivityInstanceId, s.ActivityId, s.Stage, s.StageVersion, s.State, s.KeyDigest, s.SettingsJson, s.CachedFromRunId, s.MissReasonsJson,
            s.Failure, s.Hint, Time(s.StartedAt), Time(s.EndedAt),
            [.. attempts[s.Id].Select(a => new AttemptView(
                a.Id, a.Number, a.State, a.ExitCode, a.Failure, a.Hint, Time(a.StartedAt)!.Value, Time(a.EndedAt), a.PeakRssBytes))],
            [.. ports[s.Id].Where(p => !p.IsOutput).Select(View)],
            [.. ports[s.Id].Where(p => p.IsOutput).Select(View)]))]);
    }

    /// <summary>Activity ids of the run's stages that are at work by their rows, though nobody has renewed their lease in its time: their host is gone, or its machine stands still.</summary>
    public async Task<IReadOnlyList<string>> AbandonedAsync(Guid runId, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        return await db.StageRuns.Where(s => s.RunId == runId && (s.State == StageRunState.Running || s.State == StageRunState.Cancelling))
            .Where(s => s.LeaseExpiresAt == null || s.LeaseExpiresAt < PipelineDbContext.DatabaseNow()).OrderBy(s => s.CreatedAt).Select(s => s.ActivityId).ToListAsync(ct);
    }

    /// <summary>By id, unique prefix of one, or the word <c>latest</c>.</summary>
    /// <exception cref="AmbiguousReferenceException">Several runs fit.</exception>
    public async Task<RunView?> FindRunAsync(string idOrUniquePrefix, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        var ids = await db.Runs.OrderByDescending(r => r.CreatedAt).Select(r => r.Id).ToListAsync(ct);
        var text = idOrUniquePrefix.Replace("-", "", StringComparison.Ordinal);
        var found = idOrUniquePrefix == "latest"
            ? [.. ids.Take(1)]
            : ids.Where(i => i.ToString("N").StartsWith(text, StringComparison.OrdinalIgnoreCase)).ToList();
        return found.Count switch
        {
            0 => null,
            1 => await GetRunAsync(found[0], ct),
            _ => throw new AmbiguousReferenceException(idOrUniquePrefix, [.. found.Take(5).Select(i => i.ToString())]),
        };
    }

    public async Task<IReadOnlyList<ArtifactView>> ListArtifactsAsync(string? kind = null, int limit = 100, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        return await Artifacts(db, db.Artifacts.Where(a => kind == null || a.Kind == kind).OrderByDescending(a => a.CreatedAt).Take(limit), ct);
    }

    /// <exception cref="AmbiguousReferenceException">Several artifacts fit.</exception>
    public async Task<ArtifactView?> GetArtifactAsync(string digestOrUniquePrefix, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        var text = digestOrUniquePrefix.ToLowerInvariant();
        var prefix = text.StartsWith("sha256:", StringComparison.Ordinal) ? text : "sha256:" + text;
        var found = await Artifacts(db, db.Artifacts.Where(a => a.Digest.StartsWith(prefix)).Take(5), ct);
        return found.Count <= 1 ? found.SingleOrDefault() : throw new AmbiguousReferenceException(digestOrUniquePrefix, [.. found.Select(f => f.Digest)]);
    }

    /// <summary>What made something, or what was made of it.</summary>
    public async Task<LineageView> LineageAsync(LineageQuery query, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        return await new LineageReader(db).ReadAsync(query, ct);
    }

    /// <summary>
    /// The digest that a text names in the lineage: of an artifact, of a path setting's content or of one of its files, by digest or unique
    /// prefix, or by the path where the file lay.
    /// </summary>
    /// <returns>Null: nothing in the lineage has it.</returns>
    /// <exception cref="AmbiguousReferenceException">Several fit.</exception>
    public async Task<string?> FindLineageAsync(string reference, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        var prefix = reference.StartsWith("sha256:", StringComparison.Ordinal) ? reference : "sha256:" + reference;
        foreach (var digests in (IQueryable<string>[])
        [
            db.Artifacts.Where(a => a.Digest.StartsWith(prefix)).Select(a => a.Digest),
            db.Ports.Where(p => p.External && p.Digest.StartsWith(prefix)).Select(p => p.Digest),
            db.ExternalFiles.Where(f => f.FileDigest.StartsWith(prefix) || f.Path == reference).Select(f => f.FileDigest),
        ])
        {
            var found = await digests.Distinct().Take(5).ToListAsync(ct);
            if (found.Count > 0)
            {
                return found.Count == 1 ? found[0] : throw new AmbiguousReferenceException(reference, found);
            }
        }

        return null;
    }

    /// <summary>Stage runs whose outputs a later run with the same key would take, newest first.</summary>
    public async Task<IReadOnlyList<ReusableView>> ReusableAsync(string? stage = null, Guid? runId = null, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        var rows = await Reusable(db, stage, runId).OrderByDescending(s => s.EndedAt).ToListAsync(ct);
        return [.. rows.Select(s => new ReusableView(s.KeyDigest!, s.Stage, s.ActivityId, s.RunId, Time(s.EndedAt)))];
    }

    /// <summary>Takes the key from stage runs, so that nothing finds them; the key's text stays, so that a later run can say what changed.</summary>
    /// <returns>How many.</returns>
    public async Task<int> EvictAsync(string? stage = null, Guid? runId = null, CancellationToken ct = default)
    {
        var evicted = 0;
        await database.TransactAsync(
            async db =>
            {
                evicted = await Reusable(db, stage, runId).ExecuteUpdateAsync(u => u.SetProperty(s => s.KeyDigest, (string?)null), ct);
                var meant = new JsonObject { ["stage"] = stage, ["run"] = runId?.ToString(), ["results"] = evicted };
                db.Remember(new AuditEntry(AuditAction.CacheEvicted, runId?.ToString() ?? stage ?? "all", Details: meant));
                return true;
            },
            ct);
        return evicted;
    }

    private static IQueryable<StageRunRow> Reusable(PipelineDbContext db, string? stage, Guid? runId) =>
        db.StageRuns.Where(s => s.KeyDigest != null && s.State == StageRunState.Succeeded && (stage == null || s.Stage == stage) && (runId == null || s.RunId == runId));

    /// <summary>What was done, the newest first.</summary>
    public Task<IReadOnlyList<AuditView>> AuditAsync(AuditFilter filter, CancellationToken ct = default) => AuditLog.ListAsync(options, filter, ct);

    /// <summary>Computes the chain of the audit again.</summary>
    /// <exception cref="FormatException"><paramref name="expectedHead"/> is not SEQUENCE:HASH.</exception>
    public Task<AuditVerification> VerifyAuditAsync(string? expectedHead, CancellationToken ct = default) => AuditChain.VerifyAsync(options, expectedHead, ct);

    /// <summary>The last time that a stage under this activity id did its work in one attempt; null: it never has.</summary>
    public async Task<WorkedView?> LastWorkedAsync(string stage, string activityId, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        var last = await (from s in db.StageRuns
                          join a in db.Attempts on s.Id equals a.StageRunId
                          where s.Stage == stage && s.ActivityId == activityId && a.State == StageRunState.Succeeded && a.Number == 1 && a.EndedAt != null
                          orderby a.EndedAt descending
                          select new { s.SettingsJson, a.StartedAt, a.EndedAt, a.PeakRssBytes }).FirstOrDefaultAsync(ct);
        return last is null ? null : new WorkedView(last.SettingsJson, TimeSpan.FromMilliseconds(last.EndedAt!.Value - last.StartedAt), last.PeakRssBytes);
    }

    /// <summary>The lines of an attempt, as the worker wrote them; null is the last attempt.</summary>
    public async Task<IReadOnlyList<string>> LogsAsync(Guid runId, string activityId, int? attempt = null, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        var found = await (from a in db.Attempts
                           join s in db.StageRuns on a.StageRunId equals s.Id
                           where s.RunId == runId && s.ActivityId == activityId && (attempt == null || a.Number == attempt)
                           orderby a.StartedAt descending
                           select new { a.Id, a.LogFile }).FirstOrDefaultAsync(ct);
        if (found is { LogFile.Length: > 0 })
        {
            var path = Path.Combine(logFolder, found.LogFile);
            return File.Exists(path) ? await File.ReadAllLinesAsync(path, ct) : [];
        }

        return found is null ? [] : (await LogAsync(found.Id, 0, ct)).Lines;
    }

    /// <summary>The lines of an attempt that came after the chunk of that number, and the number of the last one.</summary>
    public async Task<(IReadOnlyList<string> Lines, int Last)> LogAsync(Guid attempt, int after, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        var chunks = await db.AttemptLog.AsNoTracking().Where(l => l.AttemptId == attempt && l.Number > after).OrderBy(l => l.Number).ToListAsync(ct);
        return ([.. chunks.SelectMany(c => c.Lines.Split('\n', StringSplitOptions.RemoveEmptyEntries))], chunks.Count == 0 ? after : chunks[^1].Number);
    }

    /// <summary>The end of an attempt's log: at most so many characters of the newest lines, and the number of the last chunk, to go on from.</summary>
    /// <returns><c>IsWhole</c>: nothing came before.</returns>
    public async Task<(IReadOnlyList<string> Lines, int Last, bool IsWhole)> LogTailAsync(Guid attempt, int maxChars, CancellationToken ct = default)
    {
        const int ChunksOfARead = 16;
        await using var db = new PipelineDbContext(options);
        var (texts, chars, before) = (new Stack<string>(), 0, int.MaxValue);
        var last = 0;
        while (chars < maxChars)
        {
            var chunks = await db.AttemptLog.AsNoTracking().Where(l => l.AttemptId == attempt && l.Number < before).OrderByDescending(l => l.Number).Take(ChunksOfARead).ToListAsync(ct);
            if (chunks.Count == 0)
            {
                break;
            }

            last = Math.Max(last, chunks[0].Number);
            before = chunks[^1].Number;
            foreach (var chunk in chunks.TakeWhile(_ => chars < maxChars))
            {
                texts.Push(chunk.Lines);
                chars += chunk.Lines.Length;
                before = chunk.Number;
            }
        }

        var text = string.Concat(texts);
        var isWhole = before <= 1 || last == 0;
        if (text.Length > maxChars)
        {
            (text, isWhole) = (text[(text.IndexOf('\n', text.Length - maxChars) + 1)..], false);
        }

        return (text.Split('\n', StringSplitOptions.RemoveEmptyEntries), last, isWhole);
    }

    /// <summary>
    /// A page of an attempt's log: lines after the chunk of that number, whole chunks of at most so many characters together, but at least one.
    /// </summary>
    public async Task<(IReadOnlyList<string> Lines, int Last)> LogPageAsync(Guid attempt, int after, int maxChars, CancellationToken ct = default)
    {
        const int MaxChunks = 256;
        await using var db = new PipelineDbContext(options);
        var chunks = db.AttemptLog.AsNoTracking().Where(l => l.AttemptId == attempt && l.Number > after).OrderBy(l => l.Number);
        var (last, chars) = (after, 0L);
        foreach (var chunk in await chunks.Take(MaxChunks).Select(l => new { l.Number, l.Lines.Length }).ToListAsync(ct))
        {
            chars += chunk.Length;
            if (chars > maxChars && last > after)
            {
                break;
            }

            last = chunk.Number;
        }

        var texts = last == after ? [] : await chunks.Where(l => l.Number <= last).Select(l => l.Lines).ToListAsync(ct);
        return ([.. texts.SelectMany(t => t.Split('\n', StringSplitOptions.RemoveEmptyEntries))], last);
    }

    /// <summary>
    /// The metric points of an attempt as curves of about <paramref name="numPoints"/> points each. A curve of some thousand points is drawn from
    /// the mean of each span of steps; a longer one from every so many-th point, looked up by itself, so that a million cost no more.
    /// </summary>
    public async Task<IReadOnlyList<CurvePoint>> CurvesAsync(Guid attempt, int numPoints, CancellationToken ct = default)
    {
        const int MaxCurves = 100;
        await using var db = new PipelineDbContext(options);
        var curves = new List<CurvePoint>();
        var name = "";
        for (var i = 0; i < MaxCurves; i++)
        {
            var before = name;
            name = await db.Metrics.Where(m => m.AttemptId == attempt && string.Compare(m.Name, before) > 0).OrderBy(m => m.Name).Select(m => m.Name).FirstOrDefaultAsync(ct);
            if (name is null)
            {
                break;
            }

            curves.AddRange(await CurveAsync(db, attempt, name, numPoints, ct));
        }

        return [.. curves.OrderBy(p => p.Step)];
    }

    private static async Task<List<CurvePoint>> CurveAsync(PipelineDbContext db, Guid attempt, string name, int numPoints, CancellationToken ct)
    {
        const int MostToAverage = 10_000;
        var points = db.Metrics.Where(m => m.AttemptId == attempt && m.Name == name);
        var first = await points.OrderBy(m => m.Id).Select(m => new CurvePoint(m.Name, m.Step, m.Value, m.Id)).FirstAsync(ct);
        var last = await points.OrderByDescending(m => m.Id).Select(m => new CurvePoint(m.Name, m.Step, m.Value, m.Id)).FirstAsync(ct);
        if (await points.Take(MostToAverage + 1).CountAsync(ct) <= MostToAverage)
        {
            var span = Math.Max(1, Math.Max(first.Step, last.Step) / numPoints);
            return [.. (await points.GroupBy(m => m.Step / span).Select(g => new { Step = g.Max(m => m.Step), Value = g.Average(m => m.Value), Last = g.Max(m => m.Id) }).ToListAsync(ct))
                .Select(p => new CurvePoint(name, p.Step, p.Value, p.Last))];
        }

        var stride = Math.Max(1, (last.Last - first.Last) / numPoints);
        var places = await db.Database.SqlQuery<CurvePoint>(
            $"""
            WITH RECURSIVE places(id) AS (
                SELECT CAST({first.Last} AS bigint)
                UNION ALL
                SELECT (SELECT MIN(m."Id") FROM metrics AS m WHERE m."AttemptId" = {attempt} AND m."Name" = {name} AND m."Id" >= p.id + {stride}) FROM places AS p WHERE p.id < {last.Last})
            SELECT m."Name", m."Step", m."Value", m."Id" AS "Last" FROM places AS p JOIN metrics AS m ON m."Id" = p.id
            """).ToListAsync(ct);
        return places.Any(p => p.Last == last.Last) ? places : [.. places, last];
    }

    /// <summary>The points of an attempt that came after the one of that number.</summary>
    /// <param name="name">Of one metric; null: of all.</param>
    public async Task<IReadOnlyList<CurvePoint>> MetricsAsync(Guid attempt, long after, string? name = null, int limit = 10_000, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        return await db.Metrics.Where(m => m.AttemptId == attempt && m.Id > after && (name == null || m.Name == name)).OrderBy(m => m.Id).Take(limit)
            .Select(m => new CurvePoint(m.Name, m.Step, m.Value, m.Id)).ToListAsync(ct);
    }

    /// <summary>Of attempts: the number of the last chunk of the log and of the newest metric point.</summary>
    public async Task<IReadOnlyDictionary<Guid, AttemptHead>> HeadsAsync(IReadOnlyList<Guid> attempts, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        var heads = await db.Attempts.Where(a => EF.Parameter(attempts).Contains(a.Id)).Select(a => new
        {
            a.Id, Chunk = db.AttemptLog.Where(l => l.AttemptId == a.Id).Max(l => (int?)l.Number), Metric = db.Metrics.Where(m => m.AttemptId == a.Id).Max(m => (long?)m.Id),
        }).ToListAsync(ct);
        return heads.ToDictionary(h => h.Id, h => new AttemptHead(h.Chunk ?? 0, h.Metric ?? 0));
    }

    /// <summary>The number of the point that so many newer ones of its attempt follow; 0 where there are not as many.</summary>
    public async Task<long> MetricBeforeAsync(Guid attempt, int numNewer, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        return await db.Metrics.Where(m => m.AttemptId == attempt).OrderByDescending(m => m.Id).Skip(numNewer).Select(m => m.Id).FirstOrDefaultAsync(ct);
    }

    /// <summary>What a workflow wrote of itself in a run, after the record of that number.</summary>
    public async Task<IReadOnlyList<(long Id, DateTimeOffset At, string Text)>> LinesAsync(Guid run, long after, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        return [.. (await db.Journal.AsNoTracking().Where(j => j.RunId == run && j.Id > after && j.Event == "WriteLine").OrderBy(j => j.Id).Take(1000).ToListAsync(ct))
            .Select(j => (j.Id, Time(j.At)!.Value, j.Text ?? ""))];
    }

    public async Task<IReadOnlyList<MetricView>> MetricsAsync(Guid runId, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        return await (from m in db.Metrics
                      join a in db.Attempts on m.AttemptId equals a.Id
                      join s in db.StageRuns on a.StageRunId equals s.Id
                      where s.RunId == runId
                      orderby m.Id
                      select new MetricView(s.Stage, s.ActivityId, a.Number, m.Name, m.Value, m.Step)).ToListAsync(ct);
    }

    /// <summary>The last value of each metric that a run's attempts measured, the oldest first: few rows, however many points there are.</summary>
    public async Task<IReadOnlyList<MetricView>> LastMetricsAsync(Guid runId, CancellationToken ct = default)
    {
        await using var db = new PipelineDbContext(options);
        var last = from m in db.Metrics
                   join a in db.Attempts on m.AttemptId equals a.Id
                   join s in db.StageRuns on a.StageRunId equals s.Id
                   where s.RunId == runId
                   group m by new { m.AttemptId, m.Name } into g
                   select g.Max(m => m.Id);
        return await (from m in db.Metrics
                      join a in db.Attempts on m.AttemptId equals a.Id
                      join s in db.StageRuns on a.StageRunId equals s.Id
                      where last.Contains(m.Id)
                      orderby m.Id
                      select new MetricView(s.Stage, s.ActivityId, a.Number, m.Name, m.Value, m.Step)).ToListAsync(ct);
    }

    private static async Task<IReadOnlyList<ArtifactView>> Artifacts(PipelineDbContext db, IQueryable<ArtifactRow> rows, CancellationToken ct)
    {
        var found = await (from a in rows
                           join s in db.StageRuns on a.StageRunId equals s.Id into makers
                           from s in makers.DefaultIfEmpty()
                           select new { a, RunId = s == null ? (Guid?)null : s.RunId, Stage = s == null ? null : s.Stage }).ToListAsync(ct);
        return [.. found.OrderByDescending(f => f.a.CreatedAt).Select(f => new ArtifactView(
            f.a.Digest, f.a.Kind, f.a.SizeBytes, f.a.NumFiles, Time(f.a.CreatedAt)!.Value, f.RunId, f.Stage))];
    }

    private static RunView View(RunRow r, IReadOnlyList<StageRunView> stages) => new(
        r.Id, r.WorkflowName, r.DefinitionDigest, r.State, r.Incident, Time(r.CreatedAt)!.Value, Time(r.EndedAt), r.DefinitionJson, r.InputsJson, stages);

    private static PortArtifactView View(StageRunPortRow p) => new(p.Port, p.Kind, p.Digest, p.External);

    private static DateTimeOffset? Time(long? milliseconds) => milliseconds is { } ms ? DateTimeOffset.FromUnixTimeMilliseconds(ms) : null;
}
