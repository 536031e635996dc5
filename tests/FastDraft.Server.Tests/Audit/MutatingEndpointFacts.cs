using System.Net.Http.Headers;
using System.Text;
using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;
using FastDraft.Persistence.Audit;

namespace FastDraft.Server.Tests.Audit;

/// <summary>
/// Every address that changes something leaves a row in the audit. The addresses are those that are served: one that is added
/// without a line here fails.
/// </summary>
[Collection(ServiceCollection.Name)]
public sealed class MutatingEndpointFacts(RunningService service)
{
    private const string Api = RunningService.Api;

    /// <summary>Addresses that only read, or only refuse, though they are asked with POST.</summary>
    private static readonly Dictionary<string, string> Reading = new()
    {
        [$"POST {Api}/descriptors/activities/{{typeName}}/options/{{propertyName}}"] = "lists the choices of a setting",
        [$"POST {Api}/scripting/javascript/type-definitions/{{definitionId}}"] = "lists the names that a script may use",
        [$"POST {Api}/bulk-actions/export/workflow-definitions"] = "sends definitions, changes none",
        [$"POST {Api}/bulk-actions/export/workflow-instances"] = "sends runs, changes none",
        [$"POST {Api}/workflow-definitions/{{definitionId}}/update-references"] = "answers that nothing refers to a version",
        [$"POST {Api}/workflow-instances"] = "lists runs; the filter is in the body",
        [$"POST {Api}/workflow-instances/{{id}}/journal"] = "lists records; the filter is in the body",
        [$"POST {Api}/activity-executions/report"] = "counts executions; the filter is in the body",
        [$"POST {Api}/tests/activities"] = "refuses: one activity is not run by itself",
        ["POST /"] = "a page of the console; what its buttons do goes over its connection, and ConsoleActs is what they call",
        ["POST /runs"] = "a page of the console",
        ["POST /runs/{Id:guid}"] = "a page of the console",
        ["POST /runs/compare"] = "a page of the console",
        ["POST /artifacts/{Digest}"] = "a page of the console",
        ["POST /lineage"] = "a page of the console",
        ["POST /lineage/{Reference}"] = "a page of the console",
        ["POST /models"] = "a page of the console",
        ["POST /models/{Name}"] = "a page of the console",
        ["POST /schedules"] = "a page of the console",
        ["POST /schedules/{Name}"] = "a page of the console",
        ["POST /approvals"] = "a page of the console",
        ["POST /audit"] = "a page of the console",
        ["POST /reports/{Digest}"] = "a page of the console",
        ["POST /nothing-here"] = "a page of the console",
        ["POST /login"] = "begins a session, and SessionFacts sees its row",
        ["POST /logout"] = "ends a session, and SessionFacts sees its row",
    };

    /// <summary>What each address does, and the act and object that are remembered of it.</summary>
    private static readonly Dictionary<string, (string Action, Func<RunningService, Task<string>> Do)> Changing = new()
    {
        [$"POST {Api}/workflow-definitions"] = (AuditAction.DefinitionSaved, s => SavedAsync(s, publish: false)),
        [$"POST {Api}/workflow-definitions/{{definitionId}}/publish"] = (AuditAction.DefinitionPublished, async s => await PostAsync(s, await SavedAsync(s, publish: false), "workflow-definitions/{0}/publish")),
        [$"POST {Api}/workflow-definitions/{{definitionId}}/retract"] = (AuditAction.DefinitionRetracted, async s => await PostAsync(s, await SavedAsync(s, publish: true), "workflow-definitions/{0}/retract")),
        [$"POST {Api}/workflow-definitions/{{definitionId}}/revert/{{version:int}}"] = (AuditAction.DefinitionSaved, async s => await PostAsync(s, await SavedAsync(s, publish: true), "workflow-definitions/{0}/revert/1")),
        [$"POST {Api}/workflow-definitions/import"] = (AuditAction.DefinitionImported, async s => await PostAsync(s, Name(), "workflow-definitions/import", Model)),
        [$"PUT {Api}/workflow-definitions/{{definitionId}}/import"] = (AuditAction.DefinitionImported, PutAsync),
        [$"POST {Api}/workflow-definitions/import-files"] = (AuditAction.DefinitionImported, UploadAsync),
        [$"DELETE {Api}/workflow-definitions/{{definitionId}}"] = (AuditAction.DefinitionDeleted, async s => await DeleteAsync(s, await SavedAsync(s, publish: false), id => $"workflow-definitions/{id}")),
        [$"DELETE {Api}/workflow-definition-versions/{{id}}"] = (AuditAction.DefinitionDeleted, async s =>
        {
            var name = await SavedAsync(s, publish: false);
            var version = await VersionAsync(s, name);
            return await DeleteAsync(s, name, _ => $"workflow-definition-versions/{version}");
        }),
        [$"POST {Api}/bulk-actions/delete/workflow-definitions/by-definition-id"] = (AuditAction.DefinitionDeleted, async s =>
            await PostAsync(s, await SavedAsync(s, publish: false), "bulk-actions/delete/workflow-definitions/by-definition-id", Ids("definitionIds"))),
        [$"POST {Api}/bulk-actions/delete/workflow-definitions/by-id"] = (AuditAction.DefinitionDeleted, async s =>
        {
            var name = await SavedAsync(s, publish: false);
            var version = await VersionAsync(s, name);
            return await PostAsync(s, name, "bulk-actions/delete/workflow-definitions/by-id", _ => new JsonObject { ["ids"] = new JsonArray(version) });
        }),
        [$"POST {Api}/bulk-actions/publish/workflow-definitions/by-definition-ids"] = (AuditAction.DefinitionPublished, async s =>
            await PostAsync(s, await SavedAsync(s, publish: false), "bulk-actions/publish/workflow-definitions/by-definition-ids", Ids("definitionIds"))),
        [$"POST {Api}/bulk-actions/retract/workflow-definitions/by-definition-ids"] = (AuditAction.DefinitionRetracted, async s =>
            await PostAsync(s, await SavedAsync(s, publish: true), "bulk-actions/retract/workflow-definitions/by-definition-ids", Ids("definitionIds"))),
        [$"POST {Api}/workflow-definitions/{{definitionId}}/execute"] = (AuditAction.RunSubmitted, async s => await RunAsync(s, Model, "execute")),
        [$"POST {Api}/workflow-definitions/{{definitionId}}/dispatch"] = (AuditAction.RunSubmitted, async s => await RunAsync(s, Model, "dispatch")),
        [$"POST {Api}/workflow-instances/{{id}}/retry"] = (AuditAction.RunRetried, async s =>
        {
            var run = await EndedAsync(s);
            return (string)(await s.PostAsync($"{Api}/workflow-instances/{run}/retry", null)).Body!["workflowInstanceId"]!;
        }),
        [$"POST {Api}/cancel/workflow-instances/{{id}}"] = (AuditAction.RunCancelled, async s => await PostAsync(s, await RunAsync(s, Gated, "dispatch"), "cancel/workflow-instances/{0}")),
        [$"POST {Api}/bulk-actions/cancel/workflow-instances"] = (AuditAction.RunCancelled, async s => await PostAsync(s, await RunAsync(s, Gated, "dispatch"), "bulk-actions/cancel/workflow-instances", Ids("ids"))),
        [$"DELETE {Api}/workflow-instances/{{id}}"] = (AuditAction.RunDeleted, async s => await DeleteAsync(s, await EndedAsync(s), id => $"workflow-instances/{id}")),
        [$"POST {Api}/bulk-actions/delete/workflow-instances/by-id"] = (AuditAction.RunDeleted, async s => await PostAsync(s, await EndedAsync(s), "bulk-actions/delete/workflow-instances/by-id", Ids("ids"))),
        ["POST /api/runs"] = (AuditAction.RunSubmitted, async s => await SubmitAsync(s, Model(Name()))),
        ["POST /api/runs/{run:guid}/cancel"] = (AuditAction.RunCancelled, async s =>
        {
            var run = await SubmitAsync(s, Gated(Name()));
            Assert.Equal(202, (await s.PostAsync($"/api/runs/{run}/cancel", null)).Status);
            return run;
        }),
        ["POST /api/runs/{run:guid}/retry"] = (AuditAction.RunRetried, async s => (string)(await s.PostAsync($"/api/runs/{await EndedAsync(s)}/retry", null)).Body!["id"]!),
        ["POST /api/gates/{run:guid}/{activity}/approve"] = (AuditAction.GateApproved, s => DecideAsync(s, "approve")),
        ["POST /api/gates/{run:guid}/{activity}/reject"] = (AuditAction.GateRejected, s => DecideAsync(s, "reject")),
        ["POST /api/projections/{name}/retry"] = (AuditAction.ProjectionRetried, async s =>
        {
            var name = Name();
            s.Sql($"INSERT INTO projections (\"Name\", \"Since\") VALUES ('{name}', 0)");
            Assert.Equal(200, (await s.PostAsync($"/api/projections/{name}/retry", null)).Status);
            return name;
        }),
        ["POST /api/events/{name}"] = (AuditAction.EventPublished, async s =>
        {
            var name = Name();
            Assert.Equal(200, (await s.PostAsync($"/api/events/{name}", new JsonObject())).Status);
            return name;
        }),
    };

    public static TheoryData<string> Addresses => [.. Changing.Keys];

    [Fact]
    public void Every_address_that_is_not_asked_with_GET_is_listed()
    {
        var served = service.Routes.Where(r => r[0] != '*' && !r.StartsWith("GET ", StringComparison.Ordinal)).Distinct().ToList();
        Assert.Empty(served.Except(Changing.Keys).Except(Reading.Keys));
        Assert.Empty(Changing.Keys.Concat(Reading.Keys).Except(served));
    }

    [Theory]
    [MemberData(nameof(Addresses))]
    public async Task An_address_that_changes_something_leaves_a_row(string address)
    {
        var (action, act) = Changing[address];
        var changed = await act(service);
        var (_, body) = await service.GetAsync($"/api/audit?action={action}&object={Uri.EscapeDataString(changed)}");
        var row = body!["items"]!.AsArray().FirstOrDefault();
        Assert.True(row is not null, $"{address} left no row '{action}' of {changed}.");
        Assert.Equal(RunningService.Admin, (string?)row["actor"]);
        Assert.True((bool)(await service.GetAsync("/api/audit/verification")).Body!["isIntact"]!);
    }

    private static string Name() => "w" + Guid.CreateVersion7().ToString("N");

    private static JsonObject Model(string name) => RunningService.Workflow(name, name, "'done'");

    private static JsonObject Gated(string name)
    {
        var model = Model(name);
        model["root"]!["activities"] = new JsonArray(new JsonObject
        {
            ["id"] = "gate", ["type"] = ActivityTypes.Gate, ["version"] = 1,
            ["title"] = new JsonObject { ["typeName"] = "String", ["expression"] = new JsonObject { ["type"] = "Literal", ["value"] = "Ship it?" } },
        });
        model["root"]!["connections"] = new JsonArray();
        return model;
    }

    private static Func<string, JsonNode> Ids(string member) => id => new JsonObject { [member] = new JsonArray(id) };

    private static async Task<string> SavedAsync(RunningService service, bool publish)
    {
        var name = Name();
        Assert.Equal(200, (await service.SaveAsync(Model(name), publish)).Status);
        return name;
    }

    private static async Task<string> VersionAsync(RunningService service, string name) =>
        (string)(await service.GetAsync($"{Api}/workflow-definitions/by-definition-id/{name}?versionOptions=Latest")).Body!["id"]!;

    private static async Task<string> PostAsync(RunningService service, string id, string path, Func<string, JsonNode>? body = null)
    {
        var (status, answer) = await service.PostAsync($"{Api}/{string.Format(System.Globalization.CultureInfo.InvariantCulture, path, id)}", body?.Invoke(id) ?? new JsonObject());
        Assert.True(status == 200, answer?.ToJsonString());
        return id;
    }

    private static async Task<string> DeleteAsync(RunningService service, string id, Func<string, string> path)
    {
        using var response = await service.Http.DeleteAsync(new Uri($"{Api}/{path(id)}", UriKind.Relative));
        Assert.True(response.IsSuccessStatusCode);
        return id;
    }

    private static async Task<string> PutAsync(RunningService service)
    {
        var name = Name();
        using var response = await service.Http.PutAsync(
            new Uri($"{Api}/workflow-definitions/{name}/import", UriKind.Relative), new StringContent(Model(name).ToJsonString(), Encoding.UTF8, "application/json"));
        Assert.True(response.IsSuccessStatusCode, await response.Content.ReadAsStringAsync());
        return name;
    }

    private static async Task<string> UploadAsync(RunningService service)
    {
        var name = Name();
        using var file = new ByteArrayContent(Encoding.UTF8.GetBytes(Model(name).ToJsonString())) { Headers = { ContentType = new MediaTypeHeaderValue("application/json") } };
        using var form = new MultipartFormDataContent { { file, "files", name + ".json" } };
        using var response = await service.Http.PostAsync(new Uri($"{Api}/workflow-definitions/import-files", UriKind.Relative), form);
        Assert.True(response.IsSuccessStatusCode, await response.Content.ReadAsStringAsync());
        return name;
    }

    private static async Task<string> RunAsync(RunningService service, Func<string, JsonObject> model, string verb)
    {
        var name = Name();
        Assert.Equal(200, (await service.SaveAsync(model(name), publish: true)).Status);
        using var response = await service.Http.PostAsync(new Uri($"{Api}/workflow-definitions/{name}/{verb}", UriKind.Relative), new StringContent("{}", Encoding.UTF8, "application/json"));
        Assert.True(response.IsSuccessStatusCode, await response.Content.ReadAsStringAsync());
        return response.Headers.TryGetValues("x-elsa-workflow-instance-id", out var ids) ? ids.Single()
            : (string)JsonNode.Parse(await response.Content.ReadAsStringAsync())!["workflowInstanceId"]!;
    }

    private static async Task<string> SubmitAsync(RunningService service, JsonObject definition)
    {
        var (status, answer) = await service.PostAsync("/api/runs", new JsonObject { ["definition"] = definition });
        Assert.True(status == 201, answer?.ToJsonString());
        return (string)answer!["id"]!;
    }

    private static async Task<string> EndedAsync(RunningService service)
    {
        var run = await RunAsync(service, Model, "dispatch");
        await service.EndAsync(Guid.Parse(run));
        return run;
    }

    private static async Task<string> DecideAsync(RunningService service, string verb)
    {
        var run = await RunAsync(service, Gated, "dispatch");
        var gate = $"{run}/{await service.GateAsync(Guid.Parse(run))}";
        var (status, answer) = await service.PostAsync($"/api/gates/{gate.Replace("#", "%23", StringComparison.Ordinal)}/{verb}", new JsonObject { ["reason"] = "read" });
        Assert.True(status == 200, answer?.ToJsonString());
        return gate;
    }
}
