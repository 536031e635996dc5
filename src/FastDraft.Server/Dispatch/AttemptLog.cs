using System.Diagnostics;
using System.Text;
using FastDraft.Persistence;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Dispatch;

/// <summary>
/// Brings an attempt's lines into the database while it works, several times a second, so that every server shows them. They are an
/// account of the work, not the work: beyond <see cref="MaxChars"/>, and what a database that is away leaves no room for, they are dropped
/// and the attempt goes on.
/// </summary>
internal sealed class AttemptLog(PipelineStore store, Lease lease, TimeProvider clock)
{
    public const int MaxChars = 16 << 20;

    private const int MaxWaitingChars = 4 << 20;

    private static readonly TimeSpan Interval = TimeSpan.FromMilliseconds(400);

    private readonly Lock gate = new();
    private StringBuilder waiting = new();
    private AttemptLogRow? chunk;
    private long numChars;
    private int numDropped;
    private int written;

    public void Write(string json)
    {
        lock (gate)
        {
            if (numChars > MaxChars)
            {
                return;
            }

            if (waiting.Length + json.Length > MaxWaitingChars)
            {
                numDropped++;
                return;
            }

            if (numDropped > 0)
            {
                Add(Notice($"[{numDropped} lines are missing: they came faster than the database took them]"));
                numDropped = 0;
            }

            Add(json);
            if (numChars > MaxChars)
            {
                Add(Notice("[truncated: this attempt wrote more than its log may hold]"));
            }
        }
    }

    /// <summary>A line of the host's own.</summary>
    public void Say(string message) =>
        Write(System.Text.Json.JsonSerializer.Serialize(new { type = "log", level = "Information", message, at = clock.GetUtcNow().ToUnixTimeMilliseconds() }));

    /// <summary>Writes until stopped, and then what is left.</summary>
    public async Task RunAsync(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            await Task.Delay(Interval, stop).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await WriteAsync();
        }
    }

    private static string Notice(string message) => $$"""{"type":"log","level":"Warning","message":"{{message}}"}""";

    private void Add(string line)
    {
        waiting.Append(line).Append('\n');
        numChars += line.Length + 1;
    }

    private async Task WriteAsync()
    {
        // One that could not be written keeps its number: whether it is there already shows by that.
        chunk ??= Next();
        while (chunk is not null)
        {
            try
            {
                await store.Database.TransactAsync(
                    async db =>
                    {
                        db.Add(new AttemptLogRow { AttemptId = chunk.AttemptId, Number = chunk.Number, At = chunk.At, Lines = chunk.Lines });
                        return !await db.AttemptLog.AnyAsync(l => l.AttemptId == chunk.AttemptId && l.Number == chunk.Number) && await lease.HoldAsync(db);
                    },
                    CancellationToken.None);
            }
            catch (Exception e) when (PipelineDatabase.IsTrouble(e))
            {
                Trace.TraceWarning($"Log of {lease.StageRun.Id}: {e.Message}");
                return;
            }

            written = chunk.Number;
            chunk = Next();
        }
    }

    private AttemptLogRow? Next()
    {
        lock (gate)
        {
            if (waiting.Length == 0)
            {
                return null;
            }

            var row = new AttemptLogRow { AttemptId = lease.Attempt.Id, Number = written + 1, At = clock.GetUtcNow().ToUnixTimeMilliseconds(), Lines = waiting.ToString() };
            waiting = new StringBuilder();
            return row;
        }
    }
}
