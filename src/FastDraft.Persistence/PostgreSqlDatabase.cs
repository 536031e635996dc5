using System.Data;
using System.Data.Common;
using FastDraft.Persistence.Audit;
using Microsoft.EntityFrameworkCore;
using Npgsql;

namespace FastDraft.Persistence;

/// <summary>
/// PostgreSQL. Transactions are READ COMMITTED: what one reads may change before it writes, so rows carry concurrency tokens, keys are
/// unique, and a run's row is written first by whoever changes the run. Who loses is undone and begins again.
/// </summary>
internal sealed class PostgreSqlDatabase : PipelineDatabase
{
    // Any number: only this program takes it, only to migrate.
    private const long MigrationLock = 4_736_920_115;

    private static readonly HashSet<string> Conflicts =
        [PostgresErrorCodes.SerializationFailure, PostgresErrorCodes.DeadlockDetected, PostgresErrorCodes.UniqueViolation, PostgresErrorCodes.ForeignKeyViolation];

    private readonly NpgsqlConnectionStringBuilder connection;

    public PostgreSqlDatabase(string connectionString)
        : this(Read(connectionString))
    {
    }

    private PostgreSqlDatabase(NpgsqlConnectionStringBuilder connection)
        : base(OptionsFor(connection.ConnectionString)) => this.connection = connection;

    public override string Name => $"The PostgreSQL database '{connection.Database}' on {connection.Host}:{connection.Port}";

    public override string? ConnectionString => connection.ConnectionString;

    public override bool Exists => true;

    protected override IsolationLevel Isolation => IsolationLevel.ReadCommitted;

    /// <summary>Names are compared and sorted by their bytes, as SQLite does and as code does, whatever language the cluster was made for.</summary>
    internal static SqlDialect Dialect { get; } = new("CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS bigint)", TextCollation: "C");

    public override Task<bool> TryCopyAsync(string folder, CancellationToken ct) => Task.FromResult(false);

    protected override Task StandInLineAsync(PipelineDbContext db, string thing, CancellationToken ct) =>
        db.Database.ExecuteSqlAsync($"SELECT pg_advisory_xact_lock(hashtextextended({thing}, 0))", ct);

    protected override async Task MigrateAloneAsync(PipelineDbContext db, CancellationToken ct)
    {
        // The lock belongs to this connection and ends with it; whoever waits for it waits for the migration of another.
        db.Database.SetCommandTimeout(TimeSpan.FromMinutes(10));
        await db.Database.OpenConnectionAsync(ct);
        await db.Database.ExecuteSqlAsync($"SELECT pg_advisory_lock({MigrationLock})", ct);
        try
        {
            await db.Database.MigrateAsync(ct);
            await db.Database.ExecuteSqlRawAsync(AuditTriggers.PostgreSql, ct);
        }
        finally
        {
            await db.Database.ExecuteSqlAsync($"SELECT pg_advisory_unlock({MigrationLock})", CancellationToken.None);
        }
    }

    protected override ValueTask<IDisposable?> TakeTurnAsync(CancellationToken ct) => ValueTask.FromResult<IDisposable?>(null);

    protected override bool IsFullDisk(DbException e) => e is PostgresException { SqlState: PostgresErrorCodes.DiskFull };

    // A key that another transaction took, or a row it took away, a moment ago: the second look finds that, and says what is to be said of it.
    protected override bool IsConflict(DbException e) => e is PostgresException { SqlState: { } state } && Conflicts.Contains(state);

    private static NpgsqlConnectionStringBuilder Read(string connectionString)
    {
        var builder = new NpgsqlConnectionStringBuilder(connectionString);
        if (string.IsNullOrEmpty(builder.Host) || string.IsNullOrEmpty(builder.Database))
        {
            throw new ArgumentException("It names no Host or no Database.", nameof(connectionString));
        }

        // A server that is gone is noticed while a lease still has time to be renewed elsewhere.
        if (!builder.ShouldSerialize("Timeout"))
        {
            builder.Timeout = 5;
        }

        if (!builder.ShouldSerialize("Command Timeout"))
        {
            builder.CommandTimeout = 15;
        }

        // A host that freezes, or whose machine is gone, inside a transaction holds the rows it wrote no longer than this.
        builder.Options ??= "-c idle_in_transaction_session_timeout=15s";
        builder.ApplicationName ??= "fastdraft";
        return builder;
    }

    private static DbContextOptions<PipelineDbContext> OptionsFor(string connectionString) =>
        new DbContextOptionsBuilder<PipelineDbContext>()
            .UseNpgsql(connectionString, o => o.MigrationsAssembly("FastDraft.Migrations.PostgreSql"))
            .Options;
}
