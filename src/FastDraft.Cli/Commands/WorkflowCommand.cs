using System.CommandLine;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Server;
using FastDraft.Server.Definitions;
using FastDraft.Stages;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft workflow validate|show</c></summary>
internal static class WorkflowCommand
{
    public static Command Build()
    {
        var command = new Command("workflow", "Check and show workflow definitions");
        var file = new Argument<string>("file") { Description = "Workflow definition (Elsa 3 JSON)" };
        var validate = new Command("validate", "Report every error of a definition at once") { file, SharedOptions.Format };
        validate.SetAction((parsed, _) => CliErrors.GuardAsync(() =>
        {
            if (SharedOptions.IsJson(parsed))
            {
                var errors = Errors(parsed.GetValue(file)!, out var _);
                Output.WriteJson(errors);
                return Task.FromResult(errors.Count == 0 ? ExitCode.Ok : ExitCode.Config);
            }

            var definition = Load(parsed.GetValue(file)!);
            Console.Out.WriteLine($"{definition.Name} is valid  {definition.Digest}");
            return Task.FromResult(ExitCode.Ok);
        }));
        var show = new Command("show", "Show a definition's inputs and stages") { file, SharedOptions.Format };
        show.SetAction((parsed, _) => CliErrors.GuardAsync(() =>
        {
            Show(Load(parsed.GetValue(file)!), SharedOptions.IsJson(parsed));
            return Task.FromResult(ExitCode.Ok);
        }));
        command.Subcommands.Add(validate);
        command.Subcommands.Add(show);
        return command;
    }

    /// <summary>Reads and validates a definition; every error is printed as <c>file:line:column what, try</c>.</summary>
    public static WorkflowDefinition Load(string path)
    {
        var errors = Errors(path, out var json);
        if (errors.Count == 0)
        {
            return WorkflowDefinition.Parse(json);
        }

        foreach (var error in errors)
        {
            Console.Error.WriteLine($"{error.File}:{error.Line}:{error.Column} {error.Message}" + (error.Try is null ? string.Empty : $"\n  try: {error.Try}"));
        }

        throw new CliException(ExitCode.Config, $"{path} has {errors.Count} error{(errors.Count == 1 ? string.Empty : "s")}; nothing was run.");
    }

    /// <summary>A file, or the id or name of a workflow that was published in the data folder.</summary>
    public static async Task<WorkflowDefinition> LoadAsync(string reference, PipelineOptions options, CancellationToken cancellationToken)
    {
        if (File.Exists(reference))
        {
            return Load(reference);
        }

        // A database that is not there has published nothing, and asking it would make it: there is what ships.
        if (!PipelineStore.DatabaseOf(options.DataFolder, options.Settings).Exists)
        {
            var shipped = options.WorkflowFolder is { } folder && Directory.Exists(folder) ? Directory.GetFiles(folder, "*.json") : [];
            return Load(shipped.FirstOrDefault(f => Path.GetFileNameWithoutExtension(f) == reference) ?? throw NotThere(reference, shipped.Select(f => Path.GetFileNameWithoutExtension(f)!)));
        }

        await using var store = await PipelineStore.OpenAsync(options.DataFolder, options.Settings, cancellationToken);
        var definitions = new DefinitionStore(store, options);
        try
        {
            return WorkflowDefinition.Parse((await WorkflowReference.ResolveAsync(reference, definitions, cancellationToken)).Json);
        }
        catch (DefinitionRefusedException e)
        {
            throw new CliException(ExitCode.Config, e.Message, NearFile(reference) ?? "fastdraft run workflows/quickstart.json");
        }
        catch (WorkflowFormatException e)
        {
            throw new CliException(ExitCode.Config, $"The published workflow '{reference}' cannot be read: {e.Message}", "open it in the designer and publish it again");
        }
    }

    private static CliException NotThere(string reference, IEnumerable<string> shipped)
    {
        var names = shipped.Order(StringComparer.Ordinal).ToList();
        return new CliException(
            ExitCode.Config, $"'{reference}' is neither a file in {Environment.CurrentDirectory} nor a published workflow.{(names.Count == 0 ? string.Empty : $" There are: {string.Join(", ", names)}.")}",
            NearFile(reference) ?? (Spelling.Nearest(reference, names) is { } near ? $"did you mean '{near}'?" : "fastdraft run workflows/quickstart.json"));
    }

    /// <summary>Where a file of the same folder has nearly that name, a question whether it is meant.</summary>
    private static string? NearFile(string path)
    {
        var folder = Path.GetDirectoryName(path) is { Length: > 0 } named ? named : ".";
        return Directory.Exists(folder) && Spelling.Nearest(Path.GetFileName(path), Directory.GetFiles(folder, "*.json").Select(f => Path.GetFileName(f)!)) is { } near
            ? $"did you mean '{Path.Join(Path.GetDirectoryName(path), near)}'?" : null;
    }

    private static IReadOnlyList<WorkflowError> Errors(string path, out string json)
    {
        if (!File.Exists(path))
        {
            throw new CliException(ExitCode.Config, $"Workflow '{path}' does not exist{(Path.IsPathRooted(path) ? string.Empty : $" in {Environment.CurrentDirectory}")}.", NearFile(path) ?? "fastdraft workflow validate workflows/quickstart.json");
        }

        json = File.ReadAllText(path);
        return WorkflowValidator.Validate(json, path, BuiltinStages.Descriptors);
    }

    private static void Show(WorkflowDefinition definition, bool json)
    {
        var activities = System.Text.Json.Nodes.JsonNode.Parse(definition.ToJson())!["root"]!["activities"]!.AsArray()
            .Select(a => new { Id = a!["id"]!.GetValue<string>(), Type = a["type"]!.GetValue<string>() }).ToList();
        if (json)
        {
            Output.WriteJson(new { definition.DefinitionId, definition.Name, definition.Version, Digest = definition.Digest.ToString(), definition.Inputs, Activities = activities });
            return;
        }

        Console.Out.WriteLine($"{definition.Name}  version {definition.Version}  {definition.Digest}\n");
        Output.WriteTable([["INPUT", "TYPE", "DEFAULT", "DESCRIPTION"], .. definition.Inputs.Select(i => new[] { i.Name, i.Type, i.Default?.ToJsonString() ?? "-", i.Description ?? string.Empty })]);
        Console.Out.WriteLine();
        Output.WriteTable([["ACTIVITY", "TYPE"], .. activities.Select(a => new[] { a.Id, a.Type })]);
    }
}
