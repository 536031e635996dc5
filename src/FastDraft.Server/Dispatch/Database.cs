using System.Data.Common;
using Microsoft.Data.Sqlite;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Dispatch;

/// <summary>What the runtime has to know of database errors.</summary>
internal static class Database
{
    private const int SqliteFull = 13;

    /// <summary>The database said no or was not there: trying again later may help. Anything else is a fault of ours or of a row.</summary>
    public static bool IsTrouble(Exception e) => e is DbException or DbUpdateException or TimeoutException;

    public static bool IsFull(Exception? e) => (e as SqliteException ?? e?.InnerException as SqliteException)?.SqliteErrorCode == SqliteFull;
}
