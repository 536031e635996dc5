using System.Data;
using System.Data.Common;
using FastDraft.Persistence.Audit;
using Microsoft.Data.Sqlite;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Persistence;

/// <summary>One file, one writer at a time: a transaction that writes holds the file's write lock from its first statement.</summary>
internal sealed class SqliteDatabase(string file) : PipelineDatabase(OptionsFor(file))
{
    /// <summary>In a data folder.</summary>
    internal const string FileName = "pipeline.db";

    private const int Full = 13;

    private readonly SemaphoreSlim writer = new(1);

    public override string Name => $"The SQLite database '{file}'";

    public override string? ConnectionString => null;

    public override bool Exists => File.Exists(file);

    // The one level that Microsoft.Data.Sqlite begins as a writer: a reader that upgrades could meet a busy database.
    protected override IsolationLevel Isolation => IsolationLevel.Serializable;

    internal static SqlDialect Dialect { get; } = new("CAST(unixepoch('subsec') * 1000 AS INTEGER)", TextCollation: null);

    public override void Dispose()
    {
        writer.Dispose();
        base.Dispose();
    }

    /// <summary>Every connection waits 30 s for a busy one and enforces foreign keys.</summary>
    private static DbContextOptions<PipelineDbContext> OptionsFor(string file) =>
        new DbContextOptionsBuilder<PipelineDbContext>()
            .UseSqlite($"Data Source={file};Foreign Keys=True;Default Timeout=30", o => o.MigrationsAssembly("FastDraft.Migrations.Sqlite"))
            .Options;

    public override async Task<bool> TryCopyAsync(string folder, CancellationToken ct)
    {
        await using var db = Open();
        await db.Database.ExecuteSqlAsync($"VACUUM INTO {Path.Combine(folder, FileName)}", ct);

        // As every data folder's: read while it is written.
        await using var copy = Of(null, folder).Open();
        await copy.Database.ExecuteSqlRawAsync("PRAGMA journal_mode=WAL", ct);
        return true;
    }

    // Whoever is in a transaction has had his turn already.
    protected override Task StandInLineAsync(PipelineDbContext db, string thing, CancellationToken ct) => Task.CompletedTask;

    protected override async Task MigrateAloneAsync(PipelineDbContext db, CancellationToken ct)
    {
        // EF's own migration lock is a row that outlives a killed process and would block every later one. Under ours, a lock of the
        // operating system on a file of its own, such a row can only be left over.
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        await using var alone = new SqliteConnection($"Data Source={file}.migration;Default Timeout=600;Pooling=False");
        await alone.OpenAsync(ct);
        await using var held = await alone.BeginTransactionAsync(IsolationLevel.Serializable, ct);
        await db.Database.ExecuteSqlRawAsync("PRAGMA journal_mode=WAL; DROP TABLE IF EXISTS __EFMigrationsLock", ct);
        await db.Database.MigrateAsync(ct);
        await db.Database.ExecuteSqlRawAsync(AuditTriggers.Sqlite, ct);
    }

    protected override async ValueTask<IDisposable?> TakeTurnAsync(CancellationToken ct)
    {
        await writer.WaitAsync(ct);
        return new Turn(writer);
    }

    protected override bool IsFullDisk(DbException e) => e is SqliteException { SqliteErrorCode: Full };

    // Nobody changes anything between the reads and the writes of a transaction here.
    protected override bool IsConflict(DbException e) => false;

    private sealed class Turn(SemaphoreSlim writer) : IDisposable
    {
        public void Dispose() => writer.Release();
    }
}
