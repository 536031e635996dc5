using System.Diagnostics;
using System.Text.Json.Nodes;
using FastDraft.Core.Workflows;

namespace FastDraft.Server.Tests.Designer;

[Collection(ServiceCollection.Name)]
public sealed class DesignerApiFacts(RunningService service)
{
    private const string Api = RunningService.Api;

    /// <summary>Strings that became paths, headers or statements in others' servers.</summary>
    public static TheoryData<string> Hostile =>
    [
        "..", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e%2f", "..\\..\\x", "/etc/passwd", "C:\\x", "\\\\host\\share", "a/../../b", "a\u0000b", "~", "*", "#", "?x=1", "x;rm -rf",
        "con", "x.", "x ", "a:b", "\u2025/\u2215", "' OR 1=1 --", "<script>alert(1)</script>", "x\r\nSet-Cookie: a=b", new string('a', 4096),
    ];

    [Fact]
    public void Every_route_that_the_designer_calls_is_served()
    {
        string[] called =
        [
            "GET /descriptors/activities", "POST /descriptors/activities/{typeName}/options/{propertyName}", "GET /descriptors/expression-descriptors", "GET /descriptors/variables",
            "GET /descriptors/storage-drivers", "GET /descriptors/workflow-activation-strategies", "GET /descriptors/log-persistence-strategies", "GET /descriptors/incident-strategies",
            "GET /descriptors/commit-strategies/workflows", "GET /descriptors/commit-strategies/activities", "GET /descriptors/output-converters", "GET /features/installed",
            "GET /features/installed/{fullName}", "GET /package/version", "POST /scripting/javascript/type-definitions/{definitionId}", "GET /workflow-definitions", "POST /workflow-definitions",
            "GET /workflow-definitions/by-definition-id/{definitionId}", "GET /workflow-definitions/by-id/{id}", "GET /workflow-definitions/many-by-id", "GET /workflow-definitions/query/count",
            "GET /workflow-definitions/validation/is-name-unique", "POST /workflow-definitions/{definitionId}/publish", "POST /workflow-definitions/{definitionId}/retract",
            "POST /workflow-definitions/import", "POST /workflow-definitions/import-files", "GET /workflow-definitions/{definitionId}/export", "POST /bulk-actions/export/workflow-definitions",
            "POST /workflow-definitions/{definitionId}/revert/{version:int}", "DELETE /workflow-definitions/{definitionId}", "DELETE /workflow-definition-versions/{id}",
            "POST /bulk-actions/delete/workflow-definitions/by-definition-id", "POST /bulk-actions/delete/workflow-definitions/by-id",
            "POST /bulk-actions/publish/workflow-definitions/by-definition-ids", "POST /bulk-actions/retract/workflow-definitions/by-definition-ids",
            "GET /workflow-definitions/{definitionId}/consumers", "GET /workflow-definitions/subgraph/{id}", "GET /workflow-definitions/subgraph/segments/{id}",
            "POST /workflow-definitions/{definitionId}/execute", "POST /workflow-definitions/{definitionId}/dispatch", "POST /workflow-instances", "GET /workflow-instances/{id}",
            "GET /workflow-instances/{id}/journal", "POST /workflow-instances/{id}/journal", "GET /workflow-instances/{id}/execution-state", "GET /workflow-instances/{id}/variables",
            "POST /activity-executions/report", "GET /activity-executions/list", "GET /activity-execution-summaries/list", "GET /activity-executions/by-id",
            "GET /activity-executions/{id}/call-stack", "POST /cancel/workflow-instances/{id}", "POST /bulk-actions/cancel/workflow-instances", "DELETE /workflow-instances/{id}",
            "POST /bulk-actions/delete/workflow-instances/by-id", "GET /workflow-instances/{id}/export", "POST /bulk-actions/export/workflow-instances", "POST /tests/activities",
        ];
        Assert.Empty(called.Select(route => route.Insert(route.IndexOf('/', StringComparison.Ordinal), Api)).Except(service.Routes));
    }

    [Fact]
    public async Task Each_activity_has_one_descriptor_with_what_its_editors_need()
    {
        var (status, body) = await service.GetAsync(Api + "/descriptors/activities");
        var items = body!["items"]!.AsArray();

        Assert.Equal(200, status);
        Assert.Equal(items.Count, items.Select(i => ((string?)i!["typeName"], (int)i["version"]!)).Distinct().Count());
        foreach (var input in items.SelectMany(i => i!["inputs"]!.AsArray()))
        {
            var hint = (string)input!["uiHint"]!;
            Assert.True(hint is not "dropdown" || input["uiSpecifications"]?["dropdown"]?["selectList"]?["items"] is JsonArray { Count: > 0 }, input.ToJsonString());
            Assert.NotNull(input["displayName"]);
        }

        var types = items.Select(i => (string?)i!["typeName"]).ToHashSet();
        Assert.Subset(types, CoreActivities.All.Select(a => (string?)a.Type).ToHashSet());
        Assert.Contains("FastDraft.PretrainDraft", types);
    }

    [Fact]
    public async Task A_definition_comes_back_as_it_was_saved_with_what_the_server_adds()
    {
        var model = RunningService.Workflow("echo", "echo", "hello");
        model["root"]!["activities"]![0]!["x-unknown"] = new JsonObject { ["a"] = 1 };
        var (status, saved) = await service.SaveAsync(model, publish: false);

        Assert.Equal(200, status);
        var definition = saved!["workflowDefinition"]!;
        Assert.Equal("Workflow1:Flowchart1:write", (string?)definition["root"]!["activities"]![0]!["nodeId"]);
        Assert.Equal(1, (int?)definition["root"]!["activities"]![0]!["x-unknown"]!["a"]);
        Assert.Equal((true, false, 1), ((bool)definition["isLatest"]!, (bool)definition["isPublished"]!, (int)definition["version"]!));
        Assert.Contains("publish", definition["links"]!.AsArray().Select(l => (string?)l!["rel"]));
        Assert.Equal(definition.ToJsonString(), (await service.GetAsync(Api + "/workflow-definitions/by-definition-id/echo?versionOptions=Latest")).Body!.ToJsonString());
    }

    [Fact]
    public async Task A_file_that_ships_is_listed_and_offers_no_way_to_change_it()
    {
        var (_, list) = await service.GetAsync(Api + "/workflow-definitions?versionOptions=Latest&Page=0&PageSize=100&SearchTerm=quickstart&IsSystem=False&OrderDirection=Ascending");
        var quickstart = Assert.Single(list!["items"]!.AsArray(), i => (string?)i!["definitionId"] == "quickstart")!;

        Assert.DoesNotContain("publish", quickstart["links"]!.AsArray().Select(l => (string?)l!["rel"]));
        Assert.Contains("bulk-publish", list["links"]!.AsArray().Select(l => (string?)l!["rel"]));
        var (status, problem) = await service.PostAsync(Api + "/workflow-definitions/quickstart/publish", new JsonObject());
        Assert.Equal(409, status);
        Assert.Contains("Duplicate it", (string?)problem!["errors"]!["GeneralErrors"]![0], StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_exported_file_can_be_imported_and_means_the_same()
    {
        await service.SaveAsync(RunningService.Workflow("exported", "exported", "x"), publish: true);
        using var file = await service.Http.GetAsync(new Uri(Api + "/workflow-definitions/exported/export?versionOptions=Latest", UriKind.Relative));
        var text = await file.Content.ReadAsStringAsync();

        Assert.Equal("exported-v1.json", file.Content.Headers.ContentDisposition!.FileName);
        Assert.StartsWith("{\n  \"$schema\": \"https://elsaworkflows.io/schemas/workflow-definition/", text, StringComparison.Ordinal);
        await service.Http.DeleteAsync(new Uri(Api + "/workflow-definitions/exported", UriKind.Relative));
        var (status, imported) = await service.PostAsync(Api + "/workflow-definitions/import", JsonNode.Parse(text));
        Assert.Equal((200, false), (status, (bool)imported!["isPublished"]!));
        Assert.Equal(WorkflowDefinition.Parse(text).Digest, WorkflowDefinition.Parse(imported.ToJsonString()).Digest);
    }

    [Fact]
    public async Task A_mistake_is_told_as_the_designer_s_own_message_and_the_draft_is_kept()
    {
        var model = RunningService.Workflow("wrong", "wrong", "x");
        model["root"]!["activities"]![0]!["type"] = "FastDraft.PretrainDraf";
        Assert.Equal(200, (await service.SaveAsync(model, publish: false)).Status);

        var (status, problem) = await service.SaveAsync(model, publish: true);
        Assert.Equal(400, status);
        Assert.Contains("did you mean 'FastDraft.PretrainDraft'?", (string?)problem!["errors"]!["GeneralErrors"]![0], StringComparison.Ordinal);
        var (cannot, _) = await service.PostAsync(Api + "/workflow-definitions/wrong/execute", new JsonObject { ["versionOptions"] = "Latest" });
        Assert.Equal(400, cannot);
        Assert.Equal(200, (await service.GetAsync(Api + "/workflow-definitions/by-definition-id/wrong?versionOptions=Latest")).Status);
    }

    [Fact]
    public async Task What_the_designer_sets_on_a_new_activity_counts_though_it_names_no_type()
    {
        var model = RunningService.Workflow("untyped", "untyped", "x");
        model["root"]!["activities"]![0]!["text"]!["typeName"] = null;
        model["root"]!["activities"]!.AsArray().Add(JsonNode.Parse(
            """{ "id": "export", "type": "FastDraft.ExportDraft", "version": 1, "numParityPrompts": { "typeName": null, "expression": { "type": "Literal", "value": "zero" }, "memoryReference": null } }"""));
        var (_, saved) = await service.SaveAsync(model, publish: false);

        Assert.Equal("String", (string?)saved!["workflowDefinition"]!["root"]!["activities"]![0]!["text"]!["typeName"]);
        var (status, problem) = await service.SaveAsync(model, publish: true);
        Assert.Equal(400, status);
        Assert.Contains(problem!["errors"]!["GeneralErrors"]!.AsArray(), e => ((string)e!).Contains("numParityPrompts", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Of_a_hundred_interleaved_saves_of_four_editors_none_is_lost()
    {
        // Each editor saves as the designer does: three drafts, then it publishes, and it does not know of the others.
        var saves = await Task.WhenAll(Enumerable.Range(0, 4).Select(editor => Task.Run(async () =>
        {
            var accepted = new List<(string Text, bool Publish, int Version, string Id)>();
            for (var i = 0; i < 25; i++)
            {
                var (text, publish) = ($"editor {editor} save {i}", i % 4 == 3);
                var (status, body) = await service.SaveAsync(RunningService.Workflow("shared", "shared", text), publish);
                var definition = body!["workflowDefinition"]!;
                Assert.Equal((200, text, publish), (status, TextOf(definition), (bool)definition["isPublished"]!));
                accepted.Add((text, publish, (int)definition["version"]!, (string)definition["id"]!));
            }

            return accepted;
        })));

        // A publication closes a version with its own text, a draft is one later text of the version it was given: nobody's save went into another version.
        var all = saves.SelectMany(s => s).ToList();
        Assert.Equal(100, all.Count);
        var versions = (await service.GetAsync(Api + "/workflow-definitions/shared/versions")).Body!["items"]!.AsArray();
        Assert.Equal(Enumerable.Range(1, versions.Count).Reverse(), versions.Select(v => (int)v!["version"]!));
        foreach (var version in versions)
        {
            var number = (int)version!["version"]!;
            var stored = (await service.GetAsync($"{Api}/workflow-definitions/by-definition-id/shared?versionOptions={number}")).Body!;
            var here = all.Where(s => s.Version == number).ToList();
            Assert.All(here, s => Assert.Equal((string?)stored["id"], s.Id));
            var published = here.Where(s => s.Publish).ToList();
            Assert.True(published.Count == 1 || (published.Count == 0 && (bool)version["isLatest"]!), $"version {number}: {published.Count} publications");
            Assert.Contains(TextOf(stored), published.Count == 1 ? [published[0].Text] : here.Select(s => s.Text));
        }

        var current = Assert.Single(versions, v => (bool)v!["isPublished"]!)!;
        Assert.Equal(all.Where(s => s.Publish).Max(s => s.Version), (int)current["version"]!);
        Assert.Equal(versions.Count, (int)Assert.Single(versions, v => (bool)v!["isLatest"]!)!["version"]!);

        static string? TextOf(JsonNode definition) => (string?)definition["root"]!["activities"]![0]!["text"]!["expression"]!["value"];
    }

    [Fact]
    public async Task Versions_are_listed_gone_back_to_retracted_and_deleted()
    {
        await service.SaveAsync(RunningService.Workflow("versions", "versions", "first"), publish: true);
        await service.SaveAsync(RunningService.Workflow("versions", "versions", "second"), publish: true);
        Assert.Equal(200, (await service.PostAsync(Api + "/workflow-definitions/versions/revert/1", null)).Status);
        Assert.Equal([(3, false), (2, true), (1, false)], await ListAsync());
        var (_, draft) = await service.GetAsync(Api + "/workflow-definitions/by-definition-id/versions?versionOptions=Latest");
        Assert.Equal("first", (string?)draft!["root"]!["activities"]![0]!["text"]!["expression"]!["value"]);

        Assert.Equal(200, (await service.PostAsync(Api + "/workflow-definitions/versions/retract", null)).Status);
        Assert.Equal(404, (await service.GetAsync(Api + "/workflow-definitions/by-definition-id/versions?versionOptions=Published")).Status);
        Assert.Equal(204, (int)(await service.Http.DeleteAsync(new Uri($"{Api}/workflow-definition-versions/{draft["id"]}", UriKind.Relative))).StatusCode);
        Assert.Equal([(2, false), (1, false)], await ListAsync());
        Assert.Equal(204, (int)(await service.Http.DeleteAsync(new Uri(Api + "/workflow-definitions/versions", UriKind.Relative))).StatusCode);
        Assert.Equal(404, (await service.GetAsync(Api + "/workflow-definitions/versions/versions")).Status);

        async Task<List<(int, bool)>> ListAsync() =>
            [.. (await service.GetAsync(Api + "/workflow-definitions/versions/versions")).Body!["items"]!.AsArray().Select(v => ((int)v!["version"]!, (bool)v["isPublished"]!))];
    }

    [Fact]
    public async Task A_run_that_lacks_an_input_is_refused_in_words_for_a_person_with_a_form()
    {
        var (status, problem) = await service.PostAsync(Api + "/workflow-definitions/fastdraft/execute", new JsonObject { ["versionOptions"] = "Latest", ["input"] = new JsonObject() });

        Assert.Equal(400, status);
        var sentences = problem!["errors"]!["GeneralErrors"]!.AsArray().Select(e => (string)e!).ToList();
        Assert.Contains(sentences, s => s.StartsWith("input 'target': it has no value", StringComparison.Ordinal));
        Assert.DoesNotContain(sentences, s => s.Contains("--set", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_run_from_the_designer_is_told_from_its_rows()
    {
        await service.SaveAsync(RunningService.Workflow("greeting", "greeting", "hello"), publish: true);
        using var started = await service.Http.PostAsync(new Uri(Api + "/workflow-definitions/greeting/execute", UriKind.Relative), null);
        var id = started.Headers.GetValues("x-elsa-workflow-instance-id").Single();

        Assert.Equal("False", started.Headers.GetValues("x-elsa-workflow-cannot-start").Single());
        await service.EndAsync(Guid.Parse(id));
        var instance = (await service.GetAsync($"{Api}/workflow-instances/{id}")).Body!;
        Assert.Equal(("Finished", "Finished", "greeting"), ((string?)instance["status"], (string?)instance["subStatus"], (string?)instance["definitionId"]));
        var (_, definition) = await service.GetAsync($"{Api}/workflow-definitions/by-id/{instance["definitionVersionId"]}");
        Assert.Equal("write", (string?)definition!["root"]!["activities"]![0]!["id"]);
        var (_, ran) = await service.GetAsync($"{Api}/workflow-definitions?versionOptions=&Ids={instance["definitionVersionId"]}");
        Assert.Equal("greeting", (string?)Assert.Single(ran!["items"]!.AsArray())!["name"]);
        var (_, journal) = await service.PostAsync($"{Api}/workflow-instances/{id}/journal?skip=0&take=110", new JsonObject { ["filter"] = new JsonObject { ["excludedActivityTypes"] = new JsonArray("Elsa.Workflow", "Elsa.Flowchart") } });
        Assert.Equal(["Started", "Completed"], journal!["items"]!.AsArray().Select(r => (string?)r!["eventName"]));
        var (_, report) = await service.PostAsync(
            Api + "/activity-executions/report", new JsonObject { ["workflowInstanceId"] = id, ["activityNodeIds"] = new JsonArray("Workflow1:Flowchart1:write") });
        Assert.Equal((1, 1, 0), ((int)report!["stats"]![0]!["startedCount"]!, (int)report["stats"]![0]!["completedCount"]!, (int)report["stats"]![0]!["uncompletedCount"]!));
        var (_, executions) = await service.GetAsync($"{Api}/activity-executions/list?WorkflowInstanceId={id}&ActivityNodeId=Workflow1:Flowchart1:write");
        var execution = Assert.Single(executions!["items"]!.AsArray())!;
        Assert.Equal(200, (await service.GetAsync($"{Api}/activity-executions/by-id?id={Uri.EscapeDataString((string)execution["id"]!)}")).Status);

        var (_, list) = await service.PostAsync(Api + "/workflow-instances", new JsonObject { ["page"] = 0, ["pageSize"] = 10, ["definitionIds"] = new JsonArray("greeting"), ["status"] = "Finished" });
        Assert.Equal(1, (int)list!["totalCount"]!);
        Assert.Equal(409, (await service.PostAsync($"{Api}/cancel/workflow-instances/{id}", null)).Status);

        // The definition changes and goes; the run still shows what it ran.
        await service.Http.DeleteAsync(new Uri(Api + "/workflow-definitions/greeting", UriKind.Relative));
        Assert.Equal(200, (await service.GetAsync($"{Api}/workflow-definitions/by-id/{instance["definitionVersionId"]}")).Status);
        Assert.Equal(204, (int)(await service.Http.DeleteAsync(new Uri($"{Api}/workflow-instances/{id}", UriKind.Relative))).StatusCode);
        Assert.Equal(404, (await service.GetAsync($"{Api}/workflow-instances/{id}")).Status);
    }

    [Fact]
    public async Task Unknown_things_are_not_found()
    {
        foreach (var path in (string[])["/workflow-definitions/by-definition-id/nope", "/workflow-definitions/by-id/nope", "/workflow-definitions/by-id/run-0", "/workflow-instances/nope",
            $"/workflow-instances/{Guid.Empty}", "/workflow-instances/nope/execution-state", "/workflow-instances/nope/variables", "/activity-executions/by-id?id=nope",
            "/workflow-definitions/nope/export", "/features/installed/nope"])
        {
            var (status, body) = await service.GetAsync(Api + path);
            Assert.Equal((404, true), (status, body?["errors"]?["GeneralErrors"] is JsonArray));
        }

        foreach (var path in (string[])["/workflow-definitions/nope/publish", "/workflow-definitions/nope/retract", "/workflow-definitions/nope/revert/1", "/workflow-definitions/nope/execute",
            "/workflow-instances/nope/retry", "/cancel/workflow-instances/nope"])
        {
            Assert.Equal(404, (await service.PostAsync(Api + path, new JsonObject())).Status);
        }
    }

    [Theory]
    [MemberData(nameof(Hostile))]
    public async Task Hostile_names_name_nothing(string text)
    {
        var before = Files();
        var model = RunningService.Workflow("x", "x", "x");
        model["definitionId"] = text;
        var (status, problem) = await service.SaveAsync(model, publish: false);
        Assert.Equal(400, status == 200 && text == "con" ? 400 : status);
        Assert.True(status == 200 || problem?["errors"]?["GeneralErrors"] is JsonArray);

        var escaped = Uri.EscapeDataString(text);
        foreach (var path in (string[])["/workflow-definitions/by-definition-id/", "/workflow-definitions/by-id/", "/workflow-instances/"])
        {
            var answer = (await service.GetAsync(Api + path + escaped)).Status;
            Assert.True(answer is 404 or 400 or 405 || (answer == 200 && text is "con" or ".."), $"{path}{text}: {answer}");
        }

        // A name is only shown: anything is legal, and it gives an id that is.
        model = RunningService.Workflow("", "x", "x");
        model["name"] = text;
        var (named, saved) = await service.SaveAsync(model, publish: false);
        Assert.Equal(200, named);
        Assert.Matches("^[a-z0-9][a-z0-9._-]*$", (string)saved!["workflowDefinition"]!["definitionId"]!);
        Assert.DoesNotContain("..", (string)saved["workflowDefinition"]!["definitionId"]!, StringComparison.Ordinal);
        Assert.Equal(before, Files());
    }

    [Fact]
    public async Task What_is_too_large_or_too_deep_is_refused_at_once()
    {
        // The answer comes before the body is read, so the body is sent only if it is asked for.
        using var large = new HttpRequestMessage(HttpMethod.Post, Api + "/workflow-definitions") { Content = new StringContent(new string(' ', 2 << 20), System.Text.Encoding.UTF8, "application/json") };
        large.Headers.ExpectContinue = true;
        using var refused = await service.Http.SendAsync(large);
        Assert.Equal(413, (int)refused.StatusCode);

        var nested = string.Concat(Enumerable.Repeat("{\"a\":", 70)) + "1" + new string('}', 70);
        using var deep = await service.Http.PostAsync(
            new Uri(Api + "/workflow-definitions", UriKind.Relative),
            new StringContent($$"""{ "model": { "name": "deep", "root": { "id": "r", "type": "Elsa.Flowchart", "x": {{nested}} } } }""", System.Text.Encoding.UTF8, "application/json"));
        Assert.Equal(400, (int)deep.StatusCode);
        using var response = await service.Http.PostAsync(
            new Uri(Api + "/workflow-definitions", UriKind.Relative), new StringContent(new string('[', 100_000), System.Text.Encoding.UTF8, "application/json"));
        Assert.Equal(400, (int)response.StatusCode);
    }

    [Fact]
    public async Task Damaged_rows_are_seen_and_harm_nothing_else()
    {
        string[] poison = ["", "null", "[]", "{", "{}", "{\"root\":[]}", "\u0001", "{\"root\":{\"id\":1}}", new string('[', 200), "{\"a\":1,\"a\":2,\"root\":{}}"];
        foreach (var (i, json) in poison.Index())
        {
            service.Sql($"INSERT INTO workflow_definitions (Id, DefinitionId, Version, Name, Json, IsLatest, IsPublished, CreatedAt) VALUES ('poison{i}', 'poison{i}', 1, 'poison {i}', '{json}', 1, 1, 0)");
            service.Sql($"INSERT INTO runs (Id, WorkflowName, DefinitionId, DefinitionVersion, DefinitionJson, DefinitionDigest, InputsJson, StateJson, State, BypassCache, CancelRequested, CreatedAt, Version) VALUES ('{Guid.CreateVersion7().ToString().ToUpperInvariant()}', 'poison', 'poison{i}', 1, '{json}', '', '{json}', '{json}', 'Succeeded', 0, 0, 0, 0)");
        }

        var (status, list) = await service.GetAsync(Api + "/workflow-definitions?versionOptions=Latest&SearchTerm=poison");
        Assert.Equal((200, poison.Length), (status, (int)list!["totalCount"]!));
        Assert.StartsWith("Cannot be read", (string?)list["items"]![0]!["description"], StringComparison.Ordinal);
        for (var i = 0; i < poison.Length; i++)
        {
            var (open, problem) = await service.GetAsync($"{Api}/workflow-definitions/by-definition-id/poison{i}?versionOptions=Latest");
            Assert.True(open == 422 || (open == 200 && poison[i].StartsWith("{\"root\":{", StringComparison.Ordinal)), $"{poison[i]}: {open} {problem}");
            Assert.NotEqual(500, (await service.PostAsync($"{Api}/workflow-definitions/poison{i}/execute", new JsonObject())).Status);
        }

        var (runs, page) = await service.PostAsync(Api + "/workflow-instances", new JsonObject { ["searchTerm"] = "poison", ["pageSize"] = 100 });
        Assert.Equal((200, poison.Length), (runs, (int)page!["totalCount"]!));
        foreach (var run in page["items"]!.AsArray())
        {
            Assert.Equal(200, (await service.GetAsync($"{Api}/workflow-instances/{run!["id"]}")).Status);
        }

        Assert.Equal(200, (await service.SaveAsync(RunningService.Workflow("healthy", "healthy", "x"), publish: true)).Status);
        Assert.Equal(200, (int)(await service.Http.GetAsync(new Uri("/", UriKind.Relative))).StatusCode);
    }

    [Fact]
    public async Task Two_hundred_activities_are_validated_in_a_fifth_of_a_second()
    {
        var model = RunningService.Workflow("many", "many", "x");
        var one = model["root"]!["activities"]![0]!;
        for (var i = 1; i < 200; i++)
        {
            var next = one.DeepClone();
            (next["id"], next["name"]) = ($"write{i}", $"write{i}");
            model["root"]!["activities"]!.AsArray().Add(next);
            model["root"]!["connections"]!.AsArray().Add(new JsonObject
            {
                ["source"] = new JsonObject { ["activity"] = i == 1 ? "write" : $"write{i - 1}", ["port"] = "Done" },
                ["target"] = new JsonObject { ["activity"] = $"write{i}", ["port"] = "In" },
            });
        }

        Assert.Equal(200, (await service.SaveAsync(model, publish: true)).Status);
        var json = model.ToJsonString();
        var best = Enumerable.Range(0, 5).Min(_ =>
        {
            var watch = Stopwatch.StartNew();
            Assert.Empty(WorkflowValidator.Validate(json, "many.json", FastDraft.Stages.BuiltinStages.Descriptors));
            return watch.Elapsed;
        });
        Assert.True(best < TimeSpan.FromMilliseconds(200), $"{best.TotalMilliseconds:F0} ms");
    }

    // Everything under the service's folder and beside it; the database grows, the store's folder is made when it is first looked at, and that is all.
    private List<string> Files() =>
        [.. Directory.EnumerateFileSystemEntries(Path.GetDirectoryName(service.DataFolder)!, "*", SearchOption.AllDirectories).Where(f => !f.Contains("pipeline.db", StringComparison.Ordinal) && f != Path.Join(service.DataFolder, "cas")).Order(StringComparer.Ordinal)];
}
