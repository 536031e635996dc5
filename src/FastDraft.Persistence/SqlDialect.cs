namespace FastDraft.Persistence;

/// <summary>What the model has to know of the database it is mapped to.</summary>
/// <param name="Now">SQL of the database's clock: Unix milliseconds.</param>
/// <param name="TextCollation">Of every text column; null: the database's own.</param>
internal sealed record SqlDialect(string Now, string? TextCollation)
{
    /// <param name="provider">The name of the EF provider.</param>
    public static SqlDialect Of(string? provider) => provider == "Npgsql.EntityFrameworkCore.PostgreSQL" ? PostgreSqlDatabase.Dialect : SqliteDatabase.Dialect;
}
