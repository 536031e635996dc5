using System.Text.Json;
using FastDraft.Export.Onnx;
using FastDraft.Export.OpenVino;
using FastDraft.Modeling.Models;
using FastDraft.TestKit;

namespace FastDraft.Export.Tests;

/// <summary>Reference models written and loaded again, and what they are to say.</summary>
internal static class Exported
{
    public static string Stories260K => Asset("data", "stories260K");

    public static string Target28M => Asset("models", "target-28m");

    /// <summary>Skips the fact where the engine is not here.</summary>
    public static ICausalModel Load(string folder, ExportFormat format)
    {
        if (format == ExportFormat.Onnx)
        {
            return OnnxCausalModel.Load(folder, numThreads: 1);
        }

        Assert.SkipWhen(OpenVinoInstallation.Runtime is null, OpenVinoInstallation.Missing);
        return OpenVinoCausalModel.Load(OpenVinoInstallation.Runtime!, folder);
    }

    /// <summary>Prompts and their greedy ids, of a file of the reference assets.</summary>
    public static List<(int[] Prompt, int[] Greedy)> GreedyGoldens(params string[] path) => [.. File.ReadLines(Asset(path)).Select(line =>
    {
        using var row = JsonDocument.Parse(line);
        return (Ids(row.RootElement.GetProperty("prompt_ids")), Ids(row.RootElement.GetProperty("greedy_ids")));
    })];

    public static int[] Greedy(ICausalModel model, int[] prompt, int count)
    {
        using var session = model.StartSession();
        var row = new float[model.VocabularySize];
        var ids = new int[count];
        session.Forward(prompt, row, 1);
        for (var i = 0; i < count; i++)
        {
            ids[i] = Array.IndexOf(row, row.Max());
            session.Forward([ids[i]], row, 1);
        }

        return ids;
    }

    /// <summary>The path of a reference asset; skips the fact where there are none.</summary>
    public static string Asset(params string[] path)
    {
        Assert.SkipUnless(SharedAssets.Present, SharedAssets.Missing);
        return SharedAssets.Path(path);
    }

    private static int[] Ids(JsonElement ids) => [.. ids.EnumerateArray().Select(e => e.GetInt32())];
}
