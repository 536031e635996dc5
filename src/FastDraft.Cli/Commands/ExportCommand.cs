using System.CommandLine;
using System.Globalization;
using FastDraft.Core.Stages;
using FastDraft.Export;
using FastDraft.Stages.ExportDraft;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft export</c>: a model folder as a folder for OpenVINO, ONNX Runtime or llama.cpp, without a run.</summary>
internal static class ExportCommand
{
    public static Command Build()
    {
        var model = new Argument<string>("model") { Description = "Folder of the model: a draft or a target" };
        var format = new Option<string>("--format") { Description = "openvino, onnx or gguf", Required = true };
        var precision = new Option<string>("--precision")
        {
            Description = "What weights are stored in. openvino: f32, f16, int8, int4; onnx: f32, int8, int4; gguf: f32, f16, bf16, q8_0",
            DefaultValueFactory = _ => "f32",
        };
        var output = new Option<string>("--out") { Description = "Folder to write; an earlier export there is replaced when the new one is whole", Required = true };
        var unchecked_ = new Option<bool>("--no-compare") { Description = "Do not load both models to compare them: saves the memory of two" };
        var command = new Command("export", "Write a model folder for OpenVINO, ONNX Runtime or llama.cpp") { model, format, precision, output, unchecked_, SharedOptions.Format };
        command.SetAction((parsed, token) => CliErrors.GuardAsync(() => Task.FromResult(Run(
            parsed.GetValue(model)!, parsed.GetValue(format)!, parsed.GetValue(precision)!, parsed.GetValue(output)!, !parsed.GetValue(unchecked_), SharedOptions.IsJson(parsed), token))));
        return command;
    }

    private static int Run(string model, string formatName, string precisionName, string output, bool compare, bool json, CancellationToken cancellationToken)
    {
        ExportFormat format;
        WeightPrecision precision;
        try
        {
            format = ModelExport.Format(formatName);
            precision = ModelExport.Precision(format, precisionName);
        }
        catch (ExportException e)
        {
            throw new CliException(ExitCode.Config, e.Message, e.Hint);
        }

        var comparison = FolderExport.Write(model, output, format, precision, compare, cancellationToken);
        var bytes = Directory.EnumerateFiles(output).Sum(f => new FileInfo(f).Length);
        if (json)
        {
            Output.WriteJson(new
            {
                folder = Path.GetFullPath(output),
                format = formatName,
                precision = precisionName,
                bytes,
                engine = comparison?.Engine,
                maxAbsLogitDifference = comparison?.Result?.MaxAbsLogitDifference,
                greedyAgreement = comparison?.Result?.GreedyAgreement,
                notCompared = compare ? comparison?.Reason : "not asked for",
            });
            return ExitCode.Ok;
        }

        Console.Out.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{output}: {formatName} {precisionName}, {bytes / 1e6:N1} MB"));
        if (comparison is { Result: { } result })
        {
            Console.Out.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"compared with {model} in {comparison.Engine} {comparison.Version}: greedy ids {result.GreedyAgreement:P1} the same, max |logit difference| {result.MaxAbsLogitDifference:G3}"));
        }
        else if (comparison is not null)
        {
            Console.Out.WriteLine($"not compared with {model}: {comparison.Reason}");
        }

        return ExitCode.Ok;
    }
}
