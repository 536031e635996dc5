using FastDraft.Durability.Worker;
using FastDraft.Server;
using FastDraft.TestKit;
using Npgsql;

namespace FastDraft.Durability.Tests;

/// <summary>The databases that the facts hold on. A class of facts is abstract and has one that derives from it for each.</summary>
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
    /// <param name="isEmpty">True: not even a schema.</param>
    public static PipelineSettings New(TestDatabase database, bool isEmpty)
    {
        if (database == TestDatabase.Sqlite)
        {
            return new PipelineSettings();
        }

        Assert.SkipWhen(PostgreSqlServer.WhyNot is not null, PostgreSqlServer.Missing);
        return Task.Run(async () => new PipelineSettings { Database = (await PostgreSqlServer.OfThisProcessAsync()).NewDatabase(isEmpty ? null : await Template.Value) }).GetAwaiter().GetResult();
    }

    private static async Task<string> MakeTemplateAsync()
    {
        var connection = (await PostgreSqlServer.OfThisProcessAsync()).NewDatabase() + ";Pooling=False";
        var folder = Directory.CreateTempSubdirectory("fastdraft-");
        await using (await PipelineHost.StartAsync(HostProgram.Options(folder.FullName, leaseSeconds: 30) with { Settings = new PipelineSettings { Database = connection } }))
        {
        }

        folder.Delete(recursive: true);
        return new NpgsqlConnectionStringBuilder(connection).Database!;
    }
}
