using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Server.Projections;
using FastDraft.Server.Projections.Webhooks;
using FastDraft.TestKit;

namespace FastDraft.Server.Tests.Projections.Webhooks;

public sealed class WebhookFacts : IDisposable
{
    private const string Secret = "canary-secret-51c0";

    private readonly TestFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public async Task A_receiver_can_tell_who_sent_it_when_and_whether_it_has_had_it()
    {
        await using var receiver = await HttpReceiver.StartAsync();
        receiver.Answer = n => n == 1 ? 500 : 204;
        await using var store = await PipelineStore.OpenAsync(folder.Path);
        using var projection = new WebhookProjection(
            new WebhookSubscription("ci", new Uri(receiver.Address, "/hook?x=1"), ["alias.moved"], "SECRET", [IPNetwork.Parse("127.0.0.0/8")]) { Secret = Secret }, ProjectionOptions.None, store, TimeProvider.System);
        var told = new OutboxEventRow { Id = 41, At = 1000, Kind = OutboxEventKind.AliasMoved, DataJson = """{"Name":"docs","Version":3,"TargetDigest":"sha256:0","Alias":"champion"}""" };
        Assert.Equal(DeliveryFault.Failed, (await Assert.ThrowsAsync<DeliveryException>(() => projection.DeliverAsync(told, CancellationToken.None))).Fault);
        await projection.DeliverAsync(told, CancellationToken.None);
        await projection.DeliverAsync(new OutboxEventRow { Id = 42, Kind = OutboxEventKind.DraftRegistered, DataJson = told.DataJson }, CancellationToken.None);

        // Only what was subscribed to, both times under one id, and signed over time and body.
        Assert.Equal(2, receiver.Calls.Count);
        Assert.Single(receiver.Calls.Select(c => (c.Headers["FastDraft-Delivery"], c.Body)).Distinct());
        foreach (var call in receiver.Calls)
        {
            Assert.Equal("alias.moved", call.Headers["FastDraft-Event"]);
            var expected = "v1=" + Convert.ToHexStringLower(HMACSHA256.HashData(Encoding.UTF8.GetBytes(Secret), Encoding.UTF8.GetBytes(call.Headers["FastDraft-Timestamp"] + "." + call.Body)));
            Assert.Equal(expected, call.Headers["FastDraft-Signature"]);
            Assert.Equal("champion", (string)JsonNode.Parse(call.Body)!["draft"]!["alias"]!);
        }
    }

    [Fact]
    public async Task Without_its_secret_nothing_is_sent_and_the_problem_names_the_variable()
    {
        await using var receiver = await HttpReceiver.StartAsync();
        await using var store = await PipelineStore.OpenAsync(folder.Path);
        var subscription = Assert.Single(WebhookSubscription.Read(
            $$"""{ "subscriptions": [ { "name": "ci", "url": "{{receiver.Address}}", "secret": "secret:CI_SECRET", "allow": ["127.0.0.0/8"] } ] }""", _ => null));
        using var projection = new WebhookProjection(subscription, ProjectionOptions.None, store, TimeProvider.System);
        var e = await Assert.ThrowsAsync<DeliveryException>(() => projection.DeliverAsync(new OutboxEventRow { Kind = OutboxEventKind.RunBegun }, CancellationToken.None));
        Assert.Contains("CI_SECRET", e.Message, StringComparison.Ordinal);
        Assert.Empty(receiver.Calls);
    }

    [Fact]
    public void A_subscription_never_prints_its_secret()
    {
        var subscription = Assert.Single(WebhookSubscription.Read(
            """{ "subscriptions": [ { "name": "ci", "url": "https://hooks.example/", "secret": "secret:CI_SECRET" } ] }""", name => name == "CI_SECRET" ? Secret : null));
        Assert.DoesNotContain(Secret, subscription.ToString() + System.Text.Json.JsonSerializer.Serialize(subscription), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("{", "not as it should be")]
    [InlineData("""{ "subscriptions": [ { "name": "a b", "url": "https://x/", "secret": "secret:S" } ] }""", "named 'a b'")]
    [InlineData("""{ "subscriptions": [ { "name": "a", "url": "ftp://x/", "secret": "secret:S" } ] }""", "no http")]
    [InlineData("""{ "subscriptions": [ { "name": "a", "url": "https://u:p@x/", "secret": "secret:S" } ] }""", "password")]
    [InlineData("""{ "subscriptions": [ { "name": "a", "url": "http://0x7f000001/", "secret": "secret:S" } ] }""", "disguise")]
    [InlineData("""{ "subscriptions": [ { "name": "a", "url": "https://x/", "secret": "hunter2" } ] }""", "no secret reference")]
    [InlineData("""{ "subscriptions": [ { "name": "a", "url": "https://x/", "secret": "secret:S", "events": ["run.end"] } ] }""", "run.end")]
    [InlineData("""{ "subscriptions": [ { "name": "a", "url": "https://x/", "secret": "secret:S", "allow": ["home"] } ] }""", "no network")]
    [InlineData("""{ "subscriptions": [ { "name": "a", "url": "https://x/", "secret": "secret:S" }, { "name": "a", "url": "https://y/", "secret": "secret:S" } ] }""", "Two")]
    [InlineData("""{ "subscriptions": [ { "name": "a", "url": "https://x/", "secret": "secret:S", "sekret": 1 } ] }""", "sekret")]
    public void A_subscription_that_cannot_be_meant_so_is_refused_with_its_reason(string json, string reason)
    {
        var e = Assert.Throws<StageFailureException>(() => WebhookSubscription.Read(json, _ => "s"));
        Assert.Contains(reason, e.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("hunter2", e.Message, StringComparison.Ordinal);
    }
}
