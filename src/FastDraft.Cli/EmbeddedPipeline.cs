using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Stages;

namespace FastDraft.Cli;

/// <summary>The pipeline of this machine, as the environment says: by default SQLite and files in one folder; workers are this executable.</summary>
internal static class EmbeddedPipeline
{
    public static PipelineOptions Options(string dataFolder)
    {
        var executable = Environment.ProcessPath ?? throw new InvalidOperationException("The path of this process is unknown.");
        var assembly = Path.Join(AppContext.BaseDirectory, "fastdraft.dll");
        var isHost = Path.GetFileNameWithoutExtension(executable) == "dotnet";
        var settings = PipelineSettings.FromEnvironment();
        return new PipelineOptions
        {
            DataFolder = dataFolder,
            Settings = settings,

            // With a database of several hosts, what this machine cannot do is left to one that can.
            Accelerators = settings.Database is null ? null : ComputeEnvironment.Accelerators(),
            WorkerFile = executable,
            WorkerArguments = isHost ? [assembly, "worker"] : ["worker"],
            Stages = BuiltinStages.Descriptors,
            Environment = ComputeEnvironment.Describe(),
            ExpandPath = PathSettings.Files,
            ResolvePath = PathSettings.Resolve,
            NewSettingCheck = () => new SettingChecks(isAlone: settings.Database is null).Find,
            // Those of the folder one works in; a published executable brings its own.
            WorkflowFolder = Directory.Exists("workflows") ? Path.GetFullPath("workflows") : Path.Join(AppContext.BaseDirectory, "workflows"),
            Projections = PipelineSettings.ReadProjections(),
            TakesUpUnfinishedRuns = false,
        };
    }

    /// <summary>The pipeline of a command that only looks: it must be there already.</summary>
    public static Task<PipelineStore> OpenAsync(System.CommandLine.ParseResult parsed, CancellationToken cancellationToken)
    {
        var (folder, settings) = (SharedOptions.DataFolder(parsed), PipelineSettings.FromEnvironment());
        return PipelineStore.DatabaseOf(folder, settings).Exists
            ? PipelineStore.OpenAsync(folder, settings, cancellationToken)
            : throw new CliException(ExitCode.Config, $"'{folder}' is not a data folder: it has no pipeline.db.", "--data FOLDER or FASTDRAFT_DATA, or begin one: fastdraft run workflows/quickstart.json");
    }

    /// <summary>Workflow inputs from <c>--set name=value</c>, converted to each input's declared type.</summary>
    public static Dictionary<string, JsonNode?> Inputs(WorkflowDefinition definition, IReadOnlyList<string> assignments)
    {
        var inputs = new Dictionary<string, JsonNode?>(StringComparer.Ordinal);
        foreach (var assignment in assignments)
        {
            var at = assignment.IndexOf('=', StringComparison.Ordinal);
            if (at <= 0)
            {
                throw new CliException(ExitCode.Config, $"--set '{assignment}' is not name=value.", "--set parameters=2000000");
            }

            var (name, text) = (assignment[..at], assignment[(at + 1)..]);
            var input = definition.Inputs.FirstOrDefault(i => i.Name == name) ?? throw new CliException(
                ExitCode.Config,
                $"--set {assignment}: {definition.Name} has no input '{name}'.",
                Spelling.Nearest(name, definition.Inputs.Select(i => i.Name)) is { } near ? $"did you mean '{near}'?" : "one of " + string.Join(", ", definition.Inputs.Select(i => i.Name)));
            inputs[name] = Convert(input, text);
        }

        return inputs;
    }

    /// <summary>The inputs of a run from this folder, absolute and checked: what would fail hours later fails here, all at once.</summary>
    public static Dictionary<string, JsonNode?> CheckedInputs(PipelineOptions options, WorkflowDefinition definition, IReadOnlyDictionary<string, JsonNode?> given)
    {
        var inputs = RunInputs.Absolute(options, definition, given, Environment.CurrentDirectory);
        var problems = RunInputs.Check(options, definition, inputs);
        return problems.Count == 0 ? inputs : throw new CliException(
            ExitCode.Of(problems.Any(p => p.Kind == FailureKind.Config) ? FailureKind.Config : problems[0].Kind),
            [.. problems.Select(p => new CliError($"{p.Where}: {p.Message}", p.Hint))]);
    }

    public static async Task<RunView> FindRunAsync(PipelineQueries queries, string reference, CancellationToken cancellationToken)
    {
        try
        {
            return await queries.FindRunAsync(reference, cancellationToken)
                ?? throw new CliException(ExitCode.Config, $"There is no run '{reference}'.", "fastdraft runs list");
        }
        catch (AmbiguousReferenceException e)
        {
            throw new CliException(ExitCode.Config, $"'{reference}' names more than one run.", string.Join(", ", e.Candidates));
        }
    }

    public static async Task<ArtifactView> FindArtifactAsync(PipelineQueries queries, string reference, CancellationToken cancellationToken)
    {
        try
        {
            return await queries.GetArtifactAsync(reference, cancellationToken)
                ?? throw new CliException(ExitCode.Config, $"There is no artifact '{reference}'.", "fastdraft artifacts list");
        }
        catch (AmbiguousReferenceException e)
        {
            throw new CliException(ExitCode.Config, $"'{reference}' names more than one artifact.", string.Join(", ", e.Candidates));
        }
    }

    private static JsonNode Convert(WorkflowInput input, string text)
    {
        JsonNode? value = input.Type switch
        {
            "Int64" or "Int32" => long.TryParse(text, NumberStyles.AllowLeadingSign | NumberStyles.AllowThousands, CultureInfo.InvariantCulture, out var whole) ? JsonValue.Create(whole) : null,
            "Double" => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var real) && double.IsFinite(real) ? JsonValue.Create(real) : null,
            "Boolean" => bool.TryParse(text, out var flag) ? JsonValue.Create(flag) : null,
            _ => JsonValue.Create(text),
        };
        return value ?? throw new CliException(
            ExitCode.Config,
            $"--set {input.Name}={text}: '{text}' is not {(input.Type is "Boolean" ? "true or false" : input.Type is "Double" ? "a number" : "a whole number")}.",
            input.Default is null ? null : $"--set {input.Name}={input.Default.ToJsonString()}");
    }
}
