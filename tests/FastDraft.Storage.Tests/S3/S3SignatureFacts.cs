using FastDraft.Storage.S3;

namespace FastDraft.Storage.Tests.S3;

/// <summary>The examples that AWS publishes with the algorithm (Signature Calculations for the Authorization Header).</summary>
public sealed class S3SignatureFacts
{
    [Theory]
    [InlineData("https://examplebucket.s3.amazonaws.com/?lifecycle", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")]
    [InlineData("https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")]
    public void Published_examples_have_the_published_signatures(string uri, string signature)
    {
        var settings = new S3Settings
        {
            Endpoint = new Uri("https://s3.amazonaws.com"),
            Bucket = "examplebucket",
            AccessKey = "AKIAIOSFODNN7EXAMPLE",
            SecretKey = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        };
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri(uri));
        S3Signature.Sign(request, settings, S3Signature.EmptyBody, new DateTimeOffset(2013, 5, 24, 0, 0, 0, TimeSpan.Zero));
        Assert.Equal(
            $"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature={signature}",
            Assert.Single(request.Headers.GetValues("Authorization")));
    }
}
