using FastDraft.TestKit;
using Npgsql;

namespace FastDraft.Server.Tests;

/// <summary>The databases that the facts of stores hold on. A class of facts is abstract and has one that derives from it for each.</summary>
public enum TestDatabase
{
    Sqlite,
    PostgreSql,
}

internal static class TestDatabases
{
    // Migrated once and copied for each fact.
    private static readonly Lazy<Task<string>> Template = new(MakeTemplateAsync);

    /// <summary>Settings with a database of today's schema and no rows; a fact on a database that is not here is skipped.</summary>
    public static async Task<PipelineSettings> NewAsync(TestDatabase database)
    {
        if (database == TestDatabase.Sqlite)
        {
            return new PipelineSettings();
        }

        Assert.SkipWhen(PostgreSqlServer.WhyNot is not null, PostgreSqlServer.Missing);
        return new PipelineSettings { Database = (await PostgreSqlServer.OfThisProcessAsync()).NewDatabase(await Template.Value) };
    }

    private static async Task<string> MakeTemplateAsync()
    {
        var connection = (await PostgreSqlServer.OfThisProcessAsync()).NewDatabase() + ";Pooling=False";
        using var folder = new TestFolder();
        await using (await PipelineStore.OpenAsync(folder.Path, new PipelineSettings { Database = connection }))
        {
        }

        return new NpgsqlConnectionStringBuilder(connection).Database!;
    }
}
