using FastDraft.Core.Stages;
using FastDraft.Storage.S3;

namespace FastDraft.Storage.Tests.S3;

public sealed class S3SettingsFacts
{
    private static readonly Dictionary<string, string> Good = new()
    {
        [S3Settings.StoreVariable] = "s3://drafts/team/pipeline",
        [S3Settings.EndpointVariable] = "https://s3.example.org",
        [S3Settings.AccessKeyVariable] = "pipeline",
        [S3Settings.SecretKeyVariable] = "a-secret-of-its-own",
    };

    [Fact]
    public void Without_a_store_artifacts_stay_in_the_data_folder() => Assert.Null(S3Settings.Read(_ => null));

    [Fact]
    public void A_bucket_and_its_prefix_are_read()
    {
        var settings = Read(Good)!;
        Assert.Equal(("drafts", "team/pipeline", "us-east-1"), (settings.Bucket, settings.Prefix, settings.Region));
        Assert.DoesNotContain("a-secret-of-its-own", settings.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(S3Settings.StoreVariable, "/a/folder")]
    [InlineData(S3Settings.StoreVariable, "s3://user:pass@bucket/x")]
    [InlineData(S3Settings.StoreVariable, "s3://bucket/x y")]
    [InlineData(S3Settings.EndpointVariable, "")]
    [InlineData(S3Settings.EndpointVariable, "s3.example.org")]
    [InlineData(S3Settings.EndpointVariable, "file:///etc/passwd")]
    [InlineData(S3Settings.EndpointVariable, "https://s3.example.org/path")]
    [InlineData(S3Settings.AccessKeyVariable, "")]
    [InlineData(S3Settings.SecretKeyVariable, "")]
    [InlineData(S3Settings.SecretKeyVariable, "minioadmin")]
    [InlineData(S3Settings.SecretKeyVariable, "short")]
    [InlineData(S3Settings.SecretKeyVariable, "pipeline")]
    [InlineData(S3Settings.CacheVariable, "much")]
    public void What_cannot_be_used_is_named_and_its_value_is_not_repeated(string name, string value)
    {
        var failure = Assert.Throws<StageFailureException>(() => Read(new Dictionary<string, string>(Good) { [name] = value }));
        Assert.Equal(FailureKind.Config, failure.Kind);
        Assert.Contains(name, failure.Message, StringComparison.Ordinal);
        Assert.NotNull(failure.Hint);
        Assert.DoesNotContain(Good[S3Settings.SecretKeyVariable], failure.Message + failure.Hint, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("http://127.0.0.1:9000")]
    [InlineData("http://localhost:9000")]
    [InlineData("http://[::1]:9000")]
    public void A_default_secret_is_accepted_on_this_machine_alone(string endpoint)
    {
        var tried = new Dictionary<string, string>(Good) { [S3Settings.EndpointVariable] = endpoint, [S3Settings.AccessKeyVariable] = "minioadmin", [S3Settings.SecretKeyVariable] = "minioadmin" };
        Assert.NotNull(Read(tried));
        tried[S3Settings.EndpointVariable] = "http://minio:9000";
        Assert.Contains("default", Assert.Throws<StageFailureException>(() => Read(tried)).Message, StringComparison.Ordinal);
    }

    private static S3Settings? Read(Dictionary<string, string> variables) => S3Settings.Read(variables.GetValueOrDefault!);
}
