using System.CommandLine;
using System.Text.Json;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Server.Definitions;
using FastDraft.Server.Events;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft events publish</c>: what an Event activity waits for.</summary>
internal static class EventsCommand
{
    public static Command Build()
    {
        var name = new Argument<string>("name") { Description = "The name that Event activities wait for" };
        var payload = new Option<string?>("--payload") { Description = "JSON that the activity gets as its result" };
        var correlation = new Option<string?>("--correlation") { Description = "Only runs with this correlation id; without it all" };
        var publish = new Command("publish", "Let the runs go on that wait for an event, and start the workflows that it triggers") { name, payload, correlation, SharedOptions.Data, SharedOptions.Format };
        publish.SetAction((parsed, token) => CliErrors.GuardAsync(async () =>
        {
            await using var store = await EmbeddedPipeline.OpenAsync(parsed, token);
            var options = EmbeddedPipeline.Options(store.DataFolder);
            var definitions = new DefinitionStore(store, options);
            var reach = await new EventPublisher(options, store, definitions).PublishAsync(parsed.GetValue(name)!, Json(parsed.GetValue(payload)), parsed.GetValue(correlation), token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(reach);
            }
            else
            {
                Console.Out.WriteLine($"answered {reach.Waits} wait{(reach.Waits == 1 ? "" : "s")}, started {reach.Runs} run{(reach.Runs == 1 ? "" : "s")}");
            }

            return ExitCode.Ok;
        }));
        return new Command("events", "Publish events to runs and workflows") { publish };
    }

    private static JsonNode? Json(string? text)
    {
        try
        {
            return text is null ? null : JsonNode.Parse(text);
        }
        catch (JsonException e)
        {
            throw new CliException(ExitCode.Config, $"--payload is not JSON: {e.Message}", "--payload '{\"rows\": 3}', or '\"text\"' with its quotes");
        }
    }
}
