using System.Globalization;
using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Stages;
using FastDraft.Stages.IngestCorpus;

namespace FastDraft.Cli;

/// <summary>The embedded default: SQLite and files in one folder, workers that are this executable.</summary>
internal static class EmbeddedPipeline
{
    public static PipelineOptions Options(string dataFolder)
    {
        var executable = Environment.ProcessPath ?? throw new InvalidOperationException("The path of this process is unknown.");
        var assembly = Path.Join(AppContext.BaseDirectory, "fastdraft.dll");
        var isHost = Path.GetFileNameWithoutExtension(executable) == "dotnet";
        return new PipelineOptions
        {
            DataFolder = dataFolder,
            WorkerFile = executable,
            WorkerArguments = isHost ? [assembly, "worker"] : ["worker"],
            Stages = BuiltinStages.Descriptors,
            ExpandPath = ExpandPath,
            WorkflowFolder = Path.GetFullPath("workflows"),
            TakesUpUnfinishedRuns = false,
        };
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
                ExitCode.Config, $"{definition.Name} has no input '{name}'.", "one of " + string.Join(", ", definition.Inputs.Select(i => i.Name)));
            inputs[name] = Convert(input, text);
        }

        foreach (var missing in definition.Inputs.Where(i => i.Default is null && !inputs.ContainsKey(i.Name)))
        {
            inputs[missing.Name] = null;
        }

        return inputs;
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

    /// <summary>The files whose content identifies a path setting: all of a folder, or what a corpus source denotes.</summary>
    private static IReadOnlyList<string> ExpandPath(string path)
    {
        if (Directory.Exists(path))
        {
            return [.. Directory.EnumerateFiles(path, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal)];
        }

        var isSource = path == CorpusSources.DotnetDocs || path.Contains('*', StringComparison.Ordinal);
        return isSource ? CorpusSources.Expand(path)
            : File.Exists(path) ? [path]
            : throw new StageFailureException(FailureKind.Config, $"'{path}' does not exist.", "the path of a file or folder, from the folder you start the run in");
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
        return value ?? throw new CliException(ExitCode.Config, $"--set {input.Name}={text}: '{text}' is not of type {input.Type}.");
    }
}
