using System.Text.Json.Nodes;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Native;
using FastDraft.Stages.IngestCorpus;
using FastDraft.Stages.PyTorch;

namespace FastDraft.Stages;

/// <summary>
/// What this machine can say against a stage's settings before a run begins: paths that lead nowhere, model folders whose parts do
/// not belong together, an accelerator that is not here. Reads headers, not weights; loads no tensors. One call answers for one run:
/// stages share settings, so an answer is remembered.
/// </summary>
/// <param name="isAlone">False: other hosts do stages, too, and may have the accelerator that this machine has not.</param>
public sealed class SettingChecks(bool isAlone)
{
    private readonly Dictionary<(PathContent Content, string Path), StageFailureException?> _paths = [];

    public IReadOnlyList<SettingProblem> Find(StageDescriptor stage, JsonObject settings)
    {
        var problems = new List<SettingProblem>();
        foreach (var (setting, paths) in stage.PathsIn(settings))
        {
            problems.AddRange(paths.Select(path => Problem(setting.Content, path)).OfType<StageFailureException>().Select(e => new SettingProblem(setting.Name, e.Kind, e.Message, e.Hint)));
        }

        var accelerator = settings[TensorStages.Accelerator.Name];
        if (stage.Settings.Any(s => s.Name == TensorStages.Accelerator.Name) && accelerator?.GetValue<string>() == "cuda" && isAlone && !TrainsElsewhere(stage, settings) && Libtorch.WhyNoCuda() is { } why)
        {
            problems.Add(new SettingProblem(TensorStages.Accelerator.Name, FailureKind.Config, $"cuda is not available on this machine: {why}", "--set accelerator=cpu, or FASTDRAFT_LIBTORCH with the torch/lib folder of a CUDA build"));
        }

        if (problems.Count == 0 && stage.Settings.Any(s => s.Name == "parameters") && NeedsEstimate.ShapeProblem(settings) is { } small)
        {
            problems.Add(new SettingProblem("parameters", FailureKind.Config, small, "--set parameters=..., a larger one"));
        }

        return problems;
    }

    /// <summary>Python brings its own CUDA; what it lacks, <c>doctor</c> and the stage say, for a plan may be made on another machine.</summary>
    private static bool TrainsElsewhere(StageDescriptor stage, JsonObject settings) =>
        stage.Settings.Any(s => s.Name == "trainer") && TrainerSettings.UsesPyTorch("cuda", settings["trainer"]?.GetValue<string>() ?? TrainerSettings.Auto);

    private StageFailureException? Problem(PathContent content, string path)
    {
        if (!_paths.TryGetValue((content, path), out var problem))
        {
            try
            {
                Check(content, path);
            }
            catch (StageFailureException e)
            {
                problem = e;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                problem = new StageFailureException(FailureKind.Data, $"'{path}' cannot be read: {e.Message}", "files that this user may read", e);
            }

            _paths[(content, path)] = problem;
        }

        return problem;
    }

    private static void Check(PathContent content, string path)
    {
        switch (content)
        {
            case PathContent.Model:
                TargetFolder.Check(path);
                break;
            case PathContent.Text:
                if (CorpusSources.Expand(path).All(file => new FileInfo(file).Length == 0))
                {
                    throw new StageFailureException(FailureKind.Data, $"'{path}' is empty: its files have no bytes", "files with text");
                }

                break;
            default:
                if (!File.Exists(path) && !Directory.Exists(path))
                {
                    throw new StageFailureException(FailureKind.Config, $"'{path}' does not exist", "the path of a file or folder");
                }

                break;
        }
    }
}
