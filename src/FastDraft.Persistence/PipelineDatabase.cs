using System.Data;
using System.Data.Common;
using System.Diagnostics;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Persistence;

/// <summary>What a person asks about a database: which it is, how old its schema is, how long an answer takes.</summary>
/// <param name="Newer">A migration that this version does not know: a later one made the schema. Null: none.</param>
public sealed record DatabaseReport(string Name, string Version, IReadOnlyList<string> Applied, IReadOnlyList<string> Pending, string? Newer, TimeSpan Latency);

/// <summary>The schema of the database was made by a later version of this program, which this one must not touch.</summary>
public sealed class NewerSchemaException(string database, string migration)
    : Exception($"{database} was made by a newer version: its schema has '{migration}', which this fastdraft does not know. Nothing was changed.");

/// <summary>
/// The database of a pipeline: a SQLite file in the data folder, or PostgreSQL for several servers and nodes. All that differs between
/// the two is here and in the two that derive from it; nothing else asks which it is.
/// </summary>
public abstract class PipelineDatabase : IDisposable
{
    // A loser begins again at once; ten losses in a row are no bad luck any more.
    private const int MaxTries = 10;

    private readonly SemaphoreSlim line = new(1);

    protected PipelineDatabase(DbContextOptions<PipelineDbContext> options) => Options = options;

    public DbContextOptions<PipelineDbContext> Options { get; }

    /// <summary>For people: no secret is in it.</summary>
    public abstract string Name { get; }

    /// <summary>For Hangfire's tables, where hosts of other machines work on this database, too; null: it is one machine's own.</summary>
    public abstract string? ConnectionString { get; }

    public bool IsShared => ConnectionString is not null;

    /// <summary>False: opening it would make it.</summary>
    public abstract bool Exists { get; }

    /// <summary>The isolation of a transaction that reads what it then changes.</summary>
    protected abstract IsolationLevel Isolation { get; }

    /// <param name="connectionString">Of PostgreSQL, as Npgsql reads it; null: SQLite in the data folder.</param>
    /// <exception cref="ArgumentException">The connection string cannot be read.</exception>
    public static PipelineDatabase Of(string? connectionString, string dataFolder) =>
        connectionString is null ? new SqliteDatabase(Path.Combine(dataFolder, SqliteDatabase.FileName)) : new PostgreSqlDatabase(connectionString);

    public virtual void Dispose()
    {
        line.Dispose();
        GC.SuppressFinalize(this);
    }

    public PipelineDbContext Open() => new(Options);

    /// <summary>
    /// One transaction, committed when <paramref name="act"/> answers true. One that lost to another (a row that it read has changed, a key
    /// is taken, a deadlock) is undone for certain and done again from its first read, so <paramref name="act"/> does nothing but read and
    /// write through its context. A connection that breaks is not: whether it committed is unknown, and whoever cares reads the tables.
    /// </summary>
    public async Task<bool> TransactAsync(Func<PipelineDbContext, Task<bool>> act, CancellationToken ct)
    {
        for (var n = 1; ; n++)
        {
            try
            {
                using var turn = await TakeTurnAsync(ct);
                await using var db = Open();
                await using var transaction = await db.Database.BeginTransactionAsync(Isolation, ct);
                if (!await act(db))
                {
                    return false;
                }

                await db.SaveChangesAsync(ct);
                await transaction.CommitAsync(ct);
                return true;
            }
            catch (Exception e) when (n < MaxTries && IsLost(e))
            {
                await Task.Delay(Random.Shared.Next(10 * n), ct);
            }
        }
    }

    /// <summary>
    /// As <see cref="TransactAsync"/>, after whatever else was asked in line for the same thing has ended, here and in other processes, so that it reads
    /// what they wrote. For what many change at once, where those who lose would mostly lose again. Whoever waits for another process holds a connection
    /// meanwhile, so a process sends one at a time: any number that wait leave the connections to those that read and to the leases.
    /// </summary>
    public async Task<bool> TransactInLineAsync(string thing, Func<PipelineDbContext, Task<bool>> act, CancellationToken ct)
    {
        await line.WaitAsync(ct);
        try
        {
            return await TransactAsync(
                async db =>
                {
                    await StandInLineAsync(db, thing, ct);
                    return await act(db);
                },
                ct);
        }
        finally
        {
            line.Release();
        }
    }

    /// <summary>The database said no or was not there: trying again later may help. Anything else is a fault of ours or of a row.</summary>
    public static bool IsTrouble(Exception e) => e is DbUpdateException or TimeoutException || ErrorOf(e) is not null;

    /// <summary>What the database said, wherever it stands among the causes; null where it said nothing.</summary>
    public static DbException? ErrorOf(Exception e) => Errors(e).FirstOrDefault();

    /// <summary>The database refused a text for a character that it cannot hold: PostgreSQL for NUL. Asking again does not help.</summary>
    public static bool IsUnstorableText(Exception e) => ErrorOf(e)?.SqlState is "22021" or "22P05";

    public bool IsFull(Exception? e) => e is not null && Errors(e).Any(IsFullDisk);

    /// <summary>Brings the schema to this version; any number of processes may ask at once, and one that dies blocks none.</summary>
    /// <exception cref="NewerSchemaException">A later version made it; nothing was changed.</exception>
    public async Task MigrateAsync(CancellationToken ct)
    {
        if (await IsCurrentAsync(ct))
        {
            return;
        }

        await using var db = Open();
        await MigrateAloneAsync(db, ct);
    }

    public async Task<DatabaseReport> ReportAsync(CancellationToken ct)
    {
        await using var db = Open();
        await db.Database.OpenConnectionAsync(ct);
        var (applied, known) = (await AppliedAsync(db, ct), db.Database.GetMigrations().ToList());
        var began = Stopwatch.GetTimestamp();
        await db.Database.ExecuteSqlRawAsync("SELECT 1", ct);
        return new DatabaseReport(
            Name, db.Database.GetDbConnection().ServerVersion, applied, [.. known.Except(applied)], applied.Except(known).FirstOrDefault(), Stopwatch.GetElapsedTime(began));
    }

    /// <summary>
    /// Writes the database as of one instant into a folder, as the database of a data folder. False: it has tools of its own for that.
    /// </summary>
    public abstract Task<bool> TryCopyAsync(string folder, CancellationToken ct);

    /// <summary>Migrates while no other process does. The lock ends with the process that holds it, however it ends.</summary>
    protected abstract Task MigrateAloneAsync(PipelineDbContext db, CancellationToken ct);

    /// <summary>Held during a transaction of this process, where the database has one writer anyhow and waiting in line is cheaper than asking it again and again.</summary>
    protected abstract ValueTask<IDisposable?> TakeTurnAsync(CancellationToken ct);

    /// <summary>First in a transaction: whoever asks for the same thing waits until this transaction has ended.</summary>
    protected abstract Task StandInLineAsync(PipelineDbContext db, string thing, CancellationToken ct);

    protected abstract bool IsFullDisk(DbException e);

    /// <summary>The transaction was undone because of another one.</summary>
    protected abstract bool IsConflict(DbException e);

    private static IEnumerable<DbException> Errors(Exception e)
    {
        for (var at = e; at is not null; at = at.InnerException)
        {
            if (at is DbException error)
            {
                yield return error;
            }
        }
    }

    private static async Task<List<string>> AppliedAsync(PipelineDbContext db, CancellationToken ct) => [.. await db.Database.GetAppliedMigrationsAsync(ct)];

    private bool IsLost(Exception e) => e is DbUpdateConcurrencyException || Errors(e).Any(IsConflict);

    private async Task<bool> IsCurrentAsync(CancellationToken ct)
    {
        await using var db = Open();
        var (applied, known) = (await AppliedAsync(db, ct), db.Database.GetMigrations().ToList());
        return applied.Except(known).FirstOrDefault() is { } newer ? throw new NewerSchemaException(Name, newer) : applied.Count == known.Count;
    }
}
