using System.Diagnostics;
using System.Net.Http.Headers;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using FastDraft.Server.Projections;
using FastDraft.TestKit;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Tests.Security;

/// <summary>
/// The service with a secret in every setting that has one, all receivers and stores real or stood in for by real servers, and a run that
/// works and one that fails: afterwards no secret is anywhere that somebody might read.
/// </summary>
public sealed partial class SecretFacts : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory("fastdraft-secrets-").FullName;

    private static CancellationToken Ct => TestContext.Current.CancellationToken;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public async Task No_secret_is_in_a_log_a_row_a_page_an_artifact_a_message_to_others_or_the_list_of_processes()
    {
        Assert.SkipUnless(PostgreSqlServer.WhyNot is null, PostgreSqlServer.WhyNot ?? "");
        Assert.SkipUnless(S3Server.Missing is null, S3Server.Missing ?? "");
        await using var bucket = await S3Server.StartAsync();
        await using var receiver = await HttpReceiver.StartAsync();
        var database = (await PostgreSqlServer.OfThisProcessAsync()).NewDatabase();
        var secrets = new Dictionary<string, string>();
        string Canary(string of) => secrets[of] = "canary" + Guid.CreateVersion7().ToString("N") + "/+=";
        await File.WriteAllTextAsync(
            Path.Join(folder, "webhooks.json"),
            $$"""{ "subscriptions": [ { "name": "ci", "url": "{{receiver.Address}}hook", "events": ["run.ended"], "secret": "secret:CI_SECRET", "allow": ["127.0.0.0/8"] } ] }""", Ct);
        var environment = new Dictionary<string, string>
        {
            ["FASTDRAFT_DATABASE"] = $"{database};Password='{Canary("database")}'",
            ["FASTDRAFT_STORE"] = $"s3://{S3Server.Bucket}", ["FASTDRAFT_S3_ENDPOINT"] = bucket.Address.ToString(), ["FASTDRAFT_S3_ACCESS_KEY"] = "tester", ["FASTDRAFT_S3_SECRET_KEY"] = Canary("store"),
            ["FASTDRAFT_MLFLOW"] = receiver.Address.ToString(), ["FASTDRAFT_MLFLOW_TOKEN"] = Canary("mlflow"),
            ["FASTDRAFT_OPENLINEAGE"] = receiver.Address + "lineage", ["FASTDRAFT_OPENLINEAGE_TOKEN"] = Canary("lineage"),
            ["FASTDRAFT_WEBHOOKS"] = Path.Join(folder, "webhooks.json"), ["CI_SECRET"] = Canary("webhook"),
            ["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.Address.ToString(), ["OTEL_EXPORTER_OTLP_HEADERS"] = "api-key=" + Uri.EscapeDataString(Canary("traces")),
        };
        var created = await Executable.RunAsync(folder, environment, "token", "create", "tests", "--role", "admin", "--quiet");
        Assert.True(created.ExitCode == 0, created.Error);
        secrets["token"] = created.Out.Trim();
        using var service = Executable.Start(folder, environment, "serve", "--urls", "http://127.0.0.1:0");
        var (said, leaked) = (new StringBuilder(), new List<string>());
        try
        {
            service.ErrorDataReceived += (_, line) => said.AppendLine(line.Data);
            service.BeginErrorReadLine();
            Uri? address = null;
            while (secrets.GetValueOrDefault("link") is null)
            {
                var line = await service.StandardOutput.ReadLineAsync(Ct);
                Assert.True(line is not null, said.ToString());
                address ??= Address().Match(line) is { Success: true } found ? new Uri(found.Value) : null;

                // It is said once, to whoever started the service.
                if (Link().Match(line) is { Success: true } link)
                {
                    secrets["link"] = link.Value;
                }
            }

            using var http = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false, UseCookies = false }) { BaseAddress = address };
            using (var signedIn = await http.GetAsync(new Uri("/login?link=" + secrets["link"], UriKind.Relative), Ct))
            {
                secrets["session"] = Session().Match(string.Concat(signedIn.Headers.GetValues("Set-Cookie"))).Value;
                Assert.NotEmpty(secrets["session"]);
            }

            http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", secrets["token"]);
            var seen = new HashSet<int>();
            var runs = new[] { await IngestRun.SubmitAsync(http, folder, fails: false, Ct), await IngestRun.SubmitAsync(http, folder, fails: true, Ct) };
            foreach (var run in runs)
            {
                string? state;
                do
                {
                    leaked.AddRange(Processes(secrets, seen));
                    state = (string?)(await http.GetFromJsonAsync<JsonNode>(new Uri($"/api/runs/{run}", UriKind.Relative), Ct))!["state"];
                    await Task.Delay(50, Ct);
                }
                while (state is "Pending" or "Running");
            }

            Assert.NotEmpty(seen);
            await UntilToldAsync(environment);
            foreach (var path in runs.SelectMany(r => (string[])[$"/runs/{r}", $"/api/runs/{r}", $"/api/runs/{r}/definition", $"/api/runs/{r}/stages/ingest/logs", $"/api/runs/{r}/events"]).Concat(
            [
                "/", "/runs", "/metrics", "/hangfire", "/hangfire/servers", "/hangfire/jobs/succeeded", "/hangfire/recurring", "/api/runs", "/api/audit", "/api/audit/verification", "/api/projections", "/api/drafts",
                "/api/gates", "/api/openapi.json", "/elsa/api/workflow-definitions", "/health/ready", "/nothing",
            ]))
            {
                using var response = await http.GetAsync(new Uri(path, UriKind.Relative), Ct);
                leaked.AddRange(Find(secrets, "page " + path, await response.Content.ReadAsStringAsync(Ct) + response.Headers));
            }
        }
        finally
        {
            service.Kill(entireProcessTree: true);
            await service.WaitForExitAsync(Ct);
        }

        leaked.AddRange(Find(secrets, "what the service said", said + await service.StandardOutput.ReadToEndAsync(Ct)));
        var doctor = await Executable.RunAsync(folder, environment, "doctor");
        leaked.AddRange(Find(secrets, "doctor", doctor.Out + doctor.Error));
        Assert.NotEmpty(receiver.Calls);
        leaked.AddRange(receiver.Calls.SelectMany(c => Find(secrets, "body to " + c.Path, c.Body + c.Path)));
        foreach (var file in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories))
        {
            leaked.AddRange(Find(secrets, file, await File.ReadAllTextAsync(file, Encoding.Latin1, Ct)));
        }

        await foreach (var (table, row) in RowsAsync(environment["FASTDRAFT_DATABASE"]))
        {
            leaked.AddRange(Find(secrets, "table " + table, row));
        }

        var keys = Keys().Matches(await bucket.Http.GetStringAsync(new Uri(bucket.Address, S3Server.Bucket), Ct)).Select(m => m.Groups[1].Value).ToList();
        Assert.NotEmpty(keys);
        foreach (var key in keys)
        {
            leaked.AddRange(Find(secrets, "object " + key, await bucket.Http.GetStringAsync(bucket.UriOf(key), Ct)));
        }

        // What is looked for was there to be found: each reached the one it is for.
        Assert.Equal(9, secrets.Count);
        Assert.Contains(receiver.Calls, c => c.Headers.Values.Any(v => v.Contains(secrets["lineage"], StringComparison.Ordinal)));
        Assert.Contains(receiver.Calls, c => c.Headers.Values.Any(v => v.Contains(secrets["traces"], StringComparison.Ordinal)));
        Assert.True(leaked.Count == 0, string.Join('\n', leaked.Distinct()));
    }

    private async Task UntilToldAsync(Dictionary<string, string> environment)
    {
        await using var store = await PipelineStore.OpenAsync(Path.Join(folder, ".fastdraft"), PipelineSettings.Read(n => environment.GetValueOrDefault(n)), Ct);
        var projections = new ProjectionStore(store, TimeProvider.System);
        var began = Stopwatch.GetTimestamp();

        // MLflow's stand-in answers nothing that MLflow would, so what is for it waits; the others get all.
        while ((await projections.ListAsync(Ct)).Any(p => p.Name != "mlflow" && p.Waiting > 0))
        {
            Assert.True(Stopwatch.GetElapsedTime(began) < TimeSpan.FromMinutes(2), "The receivers were not told within two minutes.");
            await Task.Delay(100, Ct);
        }
    }

    /// <summary>Command lines of every process of this machine, and the environment of every worker.</summary>
    private static List<string> Processes(Dictionary<string, string> secrets, HashSet<int> workers)
    {
        var found = new List<string>();
        foreach (var process in Directory.EnumerateDirectories("/proc").Where(p => int.TryParse(Path.GetFileName(p), out _)))
        {
            try
            {
                found.AddRange(Find(secrets, "command line of a process", File.ReadAllText(Path.Join(process, "cmdline"))));
                if (File.ReadAllText(Path.Join(process, "environ")) is var environment && environment.Contains("FASTDRAFT_ATTEMPT=", StringComparison.Ordinal))
                {
                    workers.Add(int.Parse(Path.GetFileName(process), System.Globalization.CultureInfo.InvariantCulture));
                    found.AddRange(Find(secrets, "environment of a worker", environment));
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // It has ended, or is somebody else's.
            }
        }

        return found;
    }

    /// <summary>As they are and as they might be written.</summary>
    private static IEnumerable<string> Find(Dictionary<string, string> secrets, string where, string text) =>
        from secret in secrets
        from written in (string[])[secret.Value, Uri.EscapeDataString(secret.Value), Convert.ToBase64String(Encoding.UTF8.GetBytes(secret.Value)), secret.Value.TrimEnd('=', '+', '/')]
        where text.Contains(written, StringComparison.OrdinalIgnoreCase)
        select $"The secret '{secret.Key}' is in: {where}";

    private static async IAsyncEnumerable<(string Table, string Row)> RowsAsync(string connection)
    {
        await using var db = PipelineStore.DatabaseOf("", new PipelineSettings { Database = connection }).Open();
        var tables = await db.Database.SqlQuery<string>($"SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) AS \"Value\" FROM pg_tables WHERE schemaname IN ('public', 'hangfire')").ToListAsync(Ct);
        Assert.NotEmpty(tables);
        foreach (var table in tables)
        {
#pragma warning disable EF1002 // The names are those that the database quoted itself.
            foreach (var row in await db.Database.SqlQueryRaw<string>($"SELECT t::text AS \"Value\" FROM {table} AS t").ToListAsync(Ct))
#pragma warning restore EF1002
            {
                yield return (table, row);
            }
        }
    }

    [GeneratedRegex(@"http://127\.0\.0\.1:\d+")]
    private static partial Regex Address();

    [GeneratedRegex("fdl_[A-Za-z0-9_-]{43}")]
    private static partial Regex Link();

    [GeneratedRegex("fds_[A-Za-z0-9_-]{43}")]
    private static partial Regex Session();

    [GeneratedRegex("<Key>([^<]+)</Key>")]
    private static partial Regex Keys();
}
