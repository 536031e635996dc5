using System.CommandLine;
using System.Globalization;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Stages;
using FastDraft.Server;
using FastDraft.Server.Projections;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft projections list|retry|forget</c>: MLflow, OpenLineage and webhooks, and how far they are.</summary>
internal static class ProjectionsCommand
{
    public static Command Build()
    {
        var name = new Argument<string>("name") { Description = "mlflow, openlineage or webhook:NAME" };
        var command = new Command("projections", "Look at what is shown to MLflow, OpenLineage and webhooks");
        var list = new Command("list", "How far each is, and what hinders it") { SharedOptions.Data, SharedOptions.Format };
        list.SetAction((parsed, token) => With(parsed, async projections => Write(await projections.ListAsync(token), SharedOptions.IsJson(parsed)), token));
        var retry = new Command("retry", "Try again at once what waits and what was given up; a running host delivers it") { name, SharedOptions.Data };
        retry.SetAction((parsed, token) => With(
            parsed, async projections => Console.Out.WriteLine($"{Events(await projections.RetryAsync(parsed.GetValue(name)!, token))} will be tried again"), token));
        var forget = new Command("forget", "Drop a receiver that is no longer used, and what waits for it") { name, SharedOptions.Data };
        forget.SetAction((parsed, token) => With(
            parsed, async projections => Console.Out.WriteLine($"{parsed.GetValue(name)} is forgotten; {Events(await projections.ForgetAsync(parsed.GetValue(name)!, token))} were not delivered"), token));
        foreach (var sub in new[] { list, retry, forget })
        {
            command.Subcommands.Add(sub);
        }

        return command;
    }

    private static void Write(IReadOnlyList<ProjectionView> projections, bool json)
    {
        if (json)
        {
            Output.WriteJson(projections);
            return;
        }

        if (projections.Count == 0)
        {
            Console.Error.WriteLine("nothing is shown outside; try: FASTDRAFT_MLFLOW=http://127.0.0.1:5000 fastdraft serve");
            return;
        }

        Output.WriteTable([["PROJECTION", "WAITING", "LAG", "GIVEN UP", "DELIVERED", "POSITION", "PROBLEM"], .. projections.Select(p => new[]
        {
            p.Name, Number(p.Waiting), Figures.Duration(TimeSpan.FromSeconds(p.LagSeconds)), Number(p.Quarantined), Number(p.Delivered), Number(p.Position), p.Problem ?? "-",
        })]);
        foreach (var projection in projections)
        {
            foreach (var refused in projection.Refused)
            {
                Output.WriteText(refused.Problem ?? "it failed", $"{projection.Name} gave up event {refused.EventId} ({refused.Kind}): ");
            }
        }
    }

    private static Task<int> With(ParseResult parsed, Func<ProjectionStore, Task> action, CancellationToken token) => CliErrors.GuardAsync(async () =>
    {
        await using var store = await EmbeddedPipeline.OpenAsync(parsed, token);
        await action(new ProjectionStore(store, TimeProvider.System));
        return ExitCode.Ok;
    });

    private static string Events(int count) => count == 1 ? "1 event" : $"{Number(count)} events";

    private static string Number(long value) => value.ToString(CultureInfo.InvariantCulture);
}
