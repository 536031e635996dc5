using System.CommandLine;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Stages;
using FastDraft.Server.Provenance;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft reproduce</c>: does again what made an artifact, and says whether it comes out the same.</summary>
internal static class ReproduceCommand
{
    public static Command Build()
    {
        var artifact = new Argument<string>("artifact") { Description = "Digest or unique prefix of one" };
        var whole = new Option<bool>("--whole") { Description = "From the corpora and the target on, each stage fed by what the ones before it made now; otherwise only the stage that made it, fed from the store" };
        var command = new Command("reproduce", "Run again what made an artifact, reusing nothing, and compare digests; writes nothing into the store") { artifact, whole, SharedOptions.Data, SharedOptions.Format };
        command.SetAction((parsed, token) => CliErrors.GuardAsync(async () =>
        {
            await using var store = await EmbeddedPipeline.OpenAsync(parsed, token);
            var view = await EmbeddedPipeline.FindArtifactAsync(store.Queries, parsed.GetValue(artifact)!, token);
            var result = await new Reproducer(EmbeddedPipeline.Options(store.DataFolder), store).ReproduceAsync(
                view.Digest, parsed.GetValue(whole), stage => Console.Error.WriteLine($"running {stage} again"), token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(new { result.Artifact, result.Kind, result.IsEqual, result.RecordedCode, ThisCode = ComputeEnvironment.CodeVersion, result.ChangedInputs, result.Stages });
            }
            else
            {
                Write(result);
            }

            return result.ChangedInputs.Count > 0 ? ExitCode.Data : result.IsEqual ? ExitCode.Ok : ExitCode.RunFailed;
        }));
        return command;
    }

    private static void Write(Reproduction result)
    {
        Console.Out.WriteLine($"{result.Artifact}  {result.Kind}");
        Console.Out.WriteLine(result.RecordedCode == ComputeEnvironment.CodeVersion
            ? $"made with fastdraft {result.RecordedCode}, which this is"
            : $"made with fastdraft {result.RecordedCode}; this is another one, {ComputeEnvironment.CodeVersion}");
        if (result.ChangedInputs.Count > 0)
        {
            Console.Out.WriteLine("nothing was run: files outside the store are not what they were");
            Output.WriteTable([["STAGE", "SETTING", "FILE", "IS"], .. result.ChangedInputs.Select(c => new[] { c.ActivityId, c.Setting, c.Path, c.Change })]);
            return;
        }

        foreach (var stage in result.Stages.Where(s => s.RecordedVersion != s.ThisVersion))
        {
            Console.Out.WriteLine($"stage {stage.ActivityId} was {stage.Stage} version {stage.RecordedVersion} and is version {stage.ThisVersion} here");
        }

        Output.WriteTable([["STAGE", "OUTPUT", "KIND", "RESULT", "DIGEST"], .. result.Stages.SelectMany(s => s.Outputs.Select(o => new[]
        {
            s.ActivityId, o.Port, o.Kind, o.IsEqual ? "equal" : $"different: {o.FirstDifference}", o.Now,
        }))]);
        Console.Out.WriteLine(result.IsEqual ? "every output came out the same, bit for bit" : "not the same");
    }
}
