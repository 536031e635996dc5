using FastDraft.Core.Runs;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Persistence;

/// <summary>Which runs to list. <paramref name="Text"/>: the beginning of an id, or part of the workflow's name or of what went wrong.</summary>
/// <param name="Since">Created then or later.</param>
/// <param name="Until">Created before.</param>
public sealed record RunFilter(string? Workflow = null, RunState? State = null, DateTimeOffset? Since = null, DateTimeOffset? Until = null, string? Text = null);

/// <summary>A place between two runs of a list: creation time and id. It stays where it is when runs come and go.</summary>
public readonly record struct RunCursor(long CreatedAt, Guid Id)
{
    public override string ToString() => string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{CreatedAt}-{Id:N}");

    /// <returns>Null: the text is no cursor.</returns>
    public static RunCursor? Parse(string? text) =>
        text?.Split('-') is [var at, var id] && long.TryParse(at, System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out var time) && Guid.TryParseExact(id, "N", out var guid)
            ? new RunCursor(time, guid) : null;
}

/// <summary>A run without its stages. <paramref name="NumDone"/> of the <paramref name="NumStages"/> stage runs that it has so far have ended well.</summary>
public sealed record ListedRun(
    Guid Id, string WorkflowName, int Version, RunState State, string? Incident, DateTimeOffset CreatedAt, DateTimeOffset? EndedAt, int NumDone, int NumStages, bool WaitsForPerson);

/// <param name="Older">Where the next page begins; null on the last.</param>
/// <param name="Newer">Where the page before ends; null on the first.</param>
public sealed record ListedRuns(IReadOnlyList<ListedRun> Runs, RunCursor? Older, RunCursor? Newer);

/// <summary>What the navigation shows beside its links.</summary>
public readonly record struct NavCounts(int NumLive, int NumOpenGates);

/// <summary>
/// Runs page by page, the newest first. A page begins at a place and not after a number of rows, so the thousandth costs what the first
/// does and no run is shown twice while others begin.
/// </summary>
internal static class RunListing
{
    public static async Task<ListedRuns> PageAsync(PipelineDbContext db, RunFilter filter, RunCursor? olderThan, RunCursor? newerThan, int size, CancellationToken ct)
    {
        var runs = Filtered(db, filter);
        var isBackwards = newerThan is not null;
        if (newerThan is { } newer)
        {
            runs = runs.Where(r => r.CreatedAt > newer.CreatedAt || (r.CreatedAt == newer.CreatedAt && r.Id.CompareTo(newer.Id) > 0)).OrderBy(r => r.CreatedAt).ThenBy(r => r.Id);
        }
        else
        {
            if (olderThan is { } older)
            {
                runs = runs.Where(r => r.CreatedAt < older.CreatedAt || (r.CreatedAt == older.CreatedAt && r.Id.CompareTo(older.Id) < 0));
            }

            runs = runs.OrderByDescending(r => r.CreatedAt).ThenByDescending(r => r.Id);
        }

        var rows = await runs.Take(size + 1).Select(r => new { r.Id, r.WorkflowName, r.DefinitionVersion, r.State, r.Incident, r.CreatedAt, r.EndedAt }).ToListAsync(ct);
        var hasMore = rows.Count > size;
        rows = [.. rows.Take(size)];
        if (isBackwards)
        {
            rows.Reverse();
        }

        var ids = rows.Select(r => r.Id).ToList();
        var stages = (await db.StageRuns.Where(s => EF.Parameter(ids).Contains(s.RunId)).GroupBy(s => new { s.RunId, s.State }).Select(g => new { g.Key.RunId, g.Key.State, Count = g.Count() }).ToListAsync(ct))
            .ToLookup(g => g.RunId);
        var waiting = (await db.Waits.Where(w => EF.Parameter(ids).Contains(w.RunId) && w.Kind == WaitKind.Gate && w.DueAt == null).Select(w => w.RunId).ToListAsync(ct)).ToHashSet();
        return new ListedRuns(
            [
                .. rows.Select(r => new ListedRun(
                    r.Id, r.WorkflowName, r.DefinitionVersion, r.State, r.Incident, DateTimeOffset.FromUnixTimeMilliseconds(r.CreatedAt),
                    r.EndedAt is { } end ? DateTimeOffset.FromUnixTimeMilliseconds(end) : null,
                    stages[r.Id].Where(s => s.State is StageRunState.Succeeded or StageRunState.Cached or StageRunState.Skipped).Sum(s => s.Count), stages[r.Id].Sum(s => s.Count),
                    r.State == RunState.Running && waiting.Contains(r.Id))),
            ],
            rows.Count > 0 && (isBackwards || hasMore) ? new RunCursor(rows[^1].CreatedAt, rows[^1].Id) : null,
            rows.Count > 0 && (isBackwards ? hasMore : olderThan is not null) ? new RunCursor(rows[0].CreatedAt, rows[0].Id) : null);
    }

    private static IQueryable<RunRow> Filtered(PipelineDbContext db, RunFilter filter)
    {
        var runs = db.Runs.AsNoTracking().Where(r => r.DeletedAt == null);
        if (filter.Workflow is { } workflow)
        {
            runs = runs.Where(r => r.WorkflowName == workflow);
        }

        if (filter.State is { } state)
        {
            runs = runs.Where(r => r.State == state);
        }

        if (filter.Since?.ToUnixTimeMilliseconds() is { } since)
        {
            runs = runs.Where(r => r.CreatedAt >= since);
        }

        if (filter.Until?.ToUnixTimeMilliseconds() is { } until)
        {
            runs = runs.Where(r => r.CreatedAt < until);
        }

        if (filter.Text is { Length: > 0 } text)
        {
            // The beginning of an id is a range of ids, in both databases' order.
            if (IdRange(text) is var (first, last))
            {
                return runs.Where(r => (r.Id.CompareTo(first) >= 0 && r.Id.CompareTo(last) <= 0) || r.WorkflowName.Contains(text) || (r.Incident != null && r.Incident.Contains(text)));
            }

            runs = runs.Where(r => r.WorkflowName.Contains(text) || (r.Incident != null && r.Incident.Contains(text)));
        }

        return runs;
    }

    private static (Guid First, Guid Last)? IdRange(string text)
    {
        var hex = text.Replace("-", "", StringComparison.Ordinal);
        return hex.Length is > 0 and <= 32 && hex.All(char.IsAsciiHexDigit) ? (Guid.ParseExact(hex.PadRight(32, '0'), "N"), Guid.ParseExact(hex.PadRight(32, 'f'), "N")) : null;
    }
}
