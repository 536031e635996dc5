using System.CommandLine;
using System.Globalization;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Stages;
using FastDraft.Persistence.Audit;
using FastDraft.Server;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft audit list|verify</c>: who did what, and whether anybody changed that afterwards.</summary>
internal static class AuditCommand
{
    public static Command Build()
    {
        var actor = new Option<string?>("--actor") { Description = "Only what this one did: a person, 'schedule NAME', workflow or api" };
        var action = new Option<string?>("--action") { Description = "Only this act, such as draft.alias-moved" };
        var about = new Option<string?>("--object") { Description = "Only about this: a kind (run, definition, draft ...), an id, or the beginning of one" };
        var since = new Option<DateTimeOffset?>("--since") { Description = "Only from this time on, such as 2026-11-24 or 2026-11-24T10:00Z" };
        var limit = new Option<int>("--limit") { Description = "Acts to list", DefaultValueFactory = _ => 50 };
        var list = new Command("list", "What was done, the newest first") { actor, action, about, since, limit, SharedOptions.Data, SharedOptions.Format };
        list.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            var rows = await store.Queries.AuditAsync(
                new AuditFilter(parsed.GetValue(actor), parsed.GetValue(action), parsed.GetValue(about), parsed.GetValue(since), parsed.GetValue(limit)), token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(rows);
            }
            else
            {
                Output.WriteTable([["SEQUENCE", "AT", "ACTOR", "ACTION", "OBJECT", "DETAILS"], .. rows.Select(r => new[]
                {
                    r.Sequence.ToString(CultureInfo.InvariantCulture), Figures.Time(r.At), r.Actor, r.Action, r.ObjectId, Details(r),
                })]);
            }

            return ExitCode.Ok;
        }, token));

        var expect = new Option<string?>("--expect") { Description = "A head that an earlier verification printed: SEQUENCE:HASH; that row must still be what it was" };
        var verify = new Command("verify", "Compute the whole chain again: names every row that was edited, removed or inserted") { expect, SharedOptions.Data, SharedOptions.Format };
        verify.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            AuditVerification result;
            try
            {
                result = await store.Queries.VerifyAuditAsync(parsed.GetValue(expect), token);
            }
            catch (FormatException e)
            {
                throw new CliException(ExitCode.Config, $"--expect: {e.Message}", "fastdraft audit verify");
            }

            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(result);
            }
            else
            {
                foreach (var finding in result.Findings)
                {
                    Output.WriteText(finding.Message, finding.Kind.PadRight(10));
                }

                Console.Out.WriteLine(result.IsIntact ? $"{Rows(result.NumRows)}, every one as it was written" : $"the audit of {Rows(result.NumRows)} was changed in {result.Findings.Count} place{(result.Findings.Count == 1 ? "" : "s")}");
                Console.Out.WriteLine($"head {result.Head}");
            }

            return result.IsIntact ? ExitCode.Ok : ExitCode.RunFailed;
        }, token));
        return new Command("audit", "Who did what, and whether anybody changed that afterwards") { list, verify };
    }

    private static string Rows(long count) => count == 1 ? "1 row" : $"{count} rows";

    private static string Details(AuditView row) => string.Join(
        "  ", (row.Details?.AsObject() ?? []).Where(d => d.Value is not null).Select(d => $"{d.Key}={d.Value!.ToString()}"));

    private static Task<int> WithStore(ParseResult parsed, Func<PipelineStore, Task<int>> action, CancellationToken cancellationToken) => CliErrors.GuardAsync(async () =>
    {
        await using var store = await EmbeddedPipeline.OpenAsync(parsed, cancellationToken);
        return await action(store);
    });
}
