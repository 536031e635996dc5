using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;
using FastDraft.Persistence;
using FastDraft.Server.Gates;

namespace FastDraft.Server.Runs;

/// <summary>
/// One look at a run that is being watched: its rows, and how far its attempts are. What is read of their logs and metrics is read and
/// written as events once, however many watch, and forgotten with the look.
/// </summary>
internal sealed class RunLook(PipelineQueries queries, RunView? run, IReadOnlyList<GateView> gates, IReadOnlyDictionary<Guid, AttemptHead> heads)
{
    private const int MaxLogChars = 256 << 10;
    private const int MaxPoints = 2000;
    private const int LinesOfAnEvent = 200;
    private const int CharsOfAnEvent = 64 << 10;

    private readonly ConcurrentDictionary<long, Lazy<Task<IReadOnlyList<(long Id, DateTimeOffset At, string Text)>>>> lines = new();
    private readonly ConcurrentDictionary<(Guid Attempt, int After), Lazy<Task<(string Events, int Last)>>> logs = new();
    private readonly ConcurrentDictionary<(Guid Attempt, long After), Lazy<Task<(string Event, long Last)>>> metrics = new();

    /// <summary>Null: there is no such run.</summary>
    public RunView? Run => run;

    public IReadOnlyList<GateView> Gates => gates;

    public AttemptHead HeadOf(Guid attempt) => heads.GetValueOrDefault(attempt);

    /// <summary>What the workflow itself wrote.</summary>
    public Task<IReadOnlyList<(long Id, DateTimeOffset At, string Text)>> LinesAsync(long after) => lines.GetOrAdd(after, at => new(() => queries.LinesAsync(run!.Id, at))).Value;

    /// <summary>What an attempt wrote after a chunk, as events, and the last chunk that they tell of.</summary>
    public Task<(string Events, int Last)> LogAsync(StageRunView stage, AttemptView attempt, int after) =>
        logs.GetOrAdd((attempt.Id, after), _ => new(() => ReadLogAsync(stage, attempt, after))).Value;

    /// <summary>What an attempt measured after a point, as the data of an event, and the last point in it; that point itself where there is nothing.</summary>
    public Task<(string Event, long Last)> MetricsAsync(StageRunView stage, AttemptView attempt, long after) =>
        metrics.GetOrAdd((attempt.Id, after), _ => new(() => ReadMetricsAsync(stage, attempt, after))).Value;

    private async Task<(string Events, int Last)> ReadLogAsync(StageRunView stage, AttemptView attempt, int after)
    {
        var (written, last) = await queries.LogPageAsync(attempt.Id, after, MaxLogChars);
        var told = written.Select(l => PipelineStore.ParseLine(stage.ActivityId, l)).ToList();
        var events = new StringBuilder();
        foreach (var part in Parts(told.OfType<StageLog>()))
        {
            events.Append(RunStream.Event("log", RunStream.Data(new { stage.ActivityInstanceId, Attempt = attempt.Number, Lines = part })));
        }

        if (told.OfType<StageProgress>().LastOrDefault() is { } progress)
        {
            events.Append(RunStream.Event("progress", RunStream.Data(new { stage.ActivityInstanceId, Attempt = attempt.Number, progress.At, progress.Done, progress.Total, progress.Unit })));
        }

        return (events.ToString(), last);
    }

    private async Task<(string Event, long Last)> ReadMetricsAsync(StageRunView stage, AttemptView attempt, long after)
    {
        var points = await queries.MetricsAsync(attempt.Id, after, limit: MaxPoints);
        return points.Count == 0 ? ("", after)
            : (RunStream.Data(new { stage.ActivityInstanceId, Attempt = attempt.Number, Points = points.Select(p => new { p.Name, p.Step, p.Value }) }), points[^1].Last);
    }

    private static IEnumerable<IReadOnlyList<object>> Parts(IEnumerable<StageLog> log)
    {
        var (part, chars) = (new List<object>(), 0);
        foreach (var line in log)
        {
            part.Add(new { line.At, line.Level, line.Message });
            chars += line.Message.Length;
            if (part.Count == LinesOfAnEvent || chars > CharsOfAnEvent)
            {
                yield return part;
                (part, chars) = ([], 0);
            }
        }

        if (part.Count > 0)
        {
            yield return part;
        }
    }
}

/// <summary>Runs that somebody watches. Each is looked at four times a second for all of them together.</summary>
internal sealed class RunFeeds(PipelineStore store, GateStore gates) : IAsyncDisposable
{
    private readonly Lock gate = new();
    private readonly Dictionary<Guid, Feed> feeds = [];

    /// <summary>The looks at a run from now on. To be disposed by whoever watches.</summary>
    public Watcher Join(Guid run)
    {
        lock (gate)
        {
            if (!feeds.TryGetValue(run, out var feed))
            {
                feeds[run] = feed = new Feed(run, store.Queries, gates);
            }

            feed.NumWatchers++;
            return new Watcher(this, feed);
        }
    }

    public async ValueTask DisposeAsync()
    {
        List<Feed> open;
        lock (gate)
        {
            open = [.. feeds.Values];
            feeds.Clear();
        }

        foreach (var feed in open)
        {
            await feed.DisposeAsync();
        }
    }

    private void Leave(Feed feed)
    {
        lock (gate)
        {
            if (--feed.NumWatchers > 0 || !feeds.Remove(feed.Run))
            {
                return;
            }
        }

        _ = feed.DisposeAsync().AsTask();
    }

    internal sealed class Watcher(RunFeeds feeds, Feed feed) : IDisposable
    {
        private RunLook? seen;

        /// <summary>The newest look that this watcher has not had; null: there was none in that time.</summary>
        public async Task<RunLook?> NextAsync(TimeSpan patience, CancellationToken ct) => await feed.NextAsync(seen, patience, ct) is { } next ? seen = next : null;

        public void Dispose() => feeds.Leave(feed);
    }

    internal sealed class Feed : IAsyncDisposable
    {
        private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(250);

        private readonly CancellationTokenSource stop = new();
        private readonly PipelineQueries queries;
        private readonly GateStore gates;
        private readonly Dictionary<Guid, AttemptHead> heads = [];
        private readonly HashSet<Guid> whole = [];
        private readonly Task looking;
        private TaskCompletionSource<RunLook> next = New();
        private RunLook? last;

        public Feed(Guid run, PipelineQueries queries, GateStore gates)
        {
            (Run, this.queries, this.gates) = (run, queries, gates);
            looking = Task.Run(LookAsync);
        }

        public Guid Run { get; }

        public int NumWatchers { get; set; }

        public async Task<RunLook?> NextAsync(RunLook? seen, TimeSpan patience, CancellationToken ct)
        {
            // In this order: a look that comes in between completes the promise that was taken.
            var promised = Volatile.Read(ref next).Task;
            if (Volatile.Read(ref last) is { } known && known != seen)
            {
                return known;
            }

            using var waiting = CancellationTokenSource.CreateLinkedTokenSource(ct);
            var isThere = await Task.WhenAny(promised, Task.Delay(patience, waiting.Token)) == promised;
            await waiting.CancelAsync();
            ct.ThrowIfCancellationRequested();
            return isThere ? await promised : null;
        }

        public async ValueTask DisposeAsync()
        {
            await stop.CancelAsync();
            await looking;
            stop.Dispose();
        }

        private static TaskCompletionSource<RunLook> New() => new(TaskCreationOptions.RunContinuationsAsynchronously);

        private async Task LookAsync()
        {
            while (!stop.IsCancellationRequested)
            {
                try
                {
                    var look = await LookOnceAsync(stop.Token);
                    Volatile.Write(ref last, look);
                    Interlocked.Exchange(ref next, New()).SetResult(look);
                }
                catch (Exception e) when (PipelineDatabase.IsTrouble(e))
                {
                    // Who watches a run of hours does not stop for a restart of the database.
                    Trace.TraceWarning($"Watching {Run}: {e.Message}");
                }
                catch (OperationCanceledException)
                {
                    return;
                }

                await Task.Delay(Interval, stop.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }

        private async Task<RunLook> LookOnceAsync(CancellationToken ct)
        {
            var run = await queries.GetRunAsync(Run, ct);
            if (run is null)
            {
                return new RunLook(queries, null, [], heads);
            }

            // Nothing is added to the log of an attempt that has ended, so the look after its end is the last one at it.
            var open = run.Stages.SelectMany(s => s.Attempts).Where(a => !whole.Contains(a.Id)).ToList();
            foreach (var (attempt, head) in open.Count == 0 ? new Dictionary<Guid, AttemptHead>() : await queries.HeadsAsync([.. open.Select(a => a.Id)], ct))
            {
                heads[attempt] = head;
            }

            whole.UnionWith(open.Where(a => a.EndedAt is not null).Select(a => a.Id));
            return new RunLook(queries, run, await gates.OfRunAsync(Run, ct), new Dictionary<Guid, AttemptHead>(heads));
        }
    }
}
