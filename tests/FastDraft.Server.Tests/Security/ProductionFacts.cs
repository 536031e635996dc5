using FastDraft.Core.Stages;
using FastDraft.Server.Projections;
using FastDraft.Server.Security;
using FastDraft.Server.Web;
using FastDraft.Storage.S3;

namespace FastDraft.Server.Tests.Security;

public sealed class ProductionFacts
{
    private static readonly WebOptions Local = new();
    private static readonly WebOptions Public = new() { Url = new Uri("http://0.0.0.0:5080"), PublicUrl = new Uri("https://drafts.example") };

    [Theory]
    [InlineData("Host=db;Username=fastdraft;Password=a-long-one-of-its-own", true)]
    [InlineData("Host=db;Username=fastdraft", false)]
    [InlineData("Host=db;Username=fastdraft;Password=", false)]
    [InlineData("Host=db;Username=fastdraft;Password=fastdraft", false)]
    [InlineData("Host=db;Username=postgres;Password=postgres", false)]
    [InlineData("Host=db;Username=fastdraft;Password=short", false)]
    [InlineData("Host=/run/postgresql;Username=fastdraft", true)]
    [InlineData("Host=db;Username=fastdraft;Passfile=/etc/fastdraft/pgpass", true)]
    public void A_database_must_not_be_open_to_whoever_knows_the_manual(string database, bool accepted)
    {
        foreach (var (settings, web) in new[] { (new PipelineSettings { Database = database, IsProduction = true }, Local), (new PipelineSettings { Database = database }, Public) })
        {
            var problems = ProductionChecks.Find(settings, ProjectionOptions.None, web);
            Assert.Equal(accepted, problems.Count == 0);
            Assert.All(problems, p => Assert.StartsWith("FASTDRAFT_DATABASE", p, StringComparison.Ordinal));
        }
    }

    [Theory]
    [InlineData("minioadmin", "minioadmin")]
    [InlineData("key", "short")]
    [InlineData("key", "changeme")]
    public void Neither_must_a_store_even_of_this_machine(string access, string secret)
    {
        var store = new S3Settings { Endpoint = new Uri("http://127.0.0.1:9000"), Bucket = "b", AccessKey = access, SecretKey = secret };
        Assert.Single(ProductionChecks.Find(new PipelineSettings { Store = store, IsProduction = true }, ProjectionOptions.None, Local));
        Assert.Empty(ProductionChecks.Find(new PipelineSettings { Store = store }, ProjectionOptions.None, Local));
    }

    [Fact]
    public void Every_problem_is_told_at_once()
    {
        var settings = new PipelineSettings { IsProduction = true, Database = "Host=db", Store = new S3Settings { Endpoint = new Uri("http://s3:1"), Bucket = "b", AccessKey = "a", SecretKey = "b" } };
        Assert.Equal(4, ProductionChecks.Find(settings, new ProjectionOptions { MlflowToken = "admin", OpenLineageToken = "changeme" }, Local).Count);
    }

    [Fact]
    public void The_setting_is_true_or_false_and_nothing_that_could_be_taken_for_either()
    {
        Assert.True(PipelineSettings.Read(n => n == PipelineSettings.ProductionVariable ? "true" : null).IsProduction);
        Assert.Throws<StageFailureException>(() => PipelineSettings.Read(n => n == PipelineSettings.ProductionVariable ? "yes" : null));
    }
}
