using FastDraft.Modeling.Cpu;
using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Native;
using FastDraft.Modeling.Training;
using FastDraft.TestKit;
using TorchSharp.Modules;

namespace FastDraft.Modeling.Tests.Decoding;

/// <summary>The classes that share the drafts, one after the other.</summary>
[CollectionDefinition]
public sealed class StoriesCollection : ICollectionFixture<StoriesDrafts>;

/// <summary>stories260K and two drafts of a tenth of its size: one that never learnt, one trained for seconds on what the target writes.</summary>
public sealed class StoriesDrafts : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("drafts-").FullName;

    public StoriesDrafts()
    {
        if (SharedAssets.Present)
        {
            Libtorch.Load();
            Make();
        }
    }

    private static string TargetFolder => SharedAssets.Path("data", "stories260K");

    /// <param name="engine">cpu or torch.</param>
    /// <param name="name">target, trained or untrained.</param>
    public ICausalModel Load(string engine, string name)
    {
        var folder = name == "target" ? TargetFolder : Path.Join(_folder, name);
        return engine == "cpu" ? CpuCausalModel.Load(folder, 1) : new TorchCausalModel(Decoder.Load(folder));
    }

    /// <summary>Beginnings of stories, as the target tells them: 1 to 16 tokens, no two seeds of which train a draft.</summary>
    public static int[][] Prompts(int count) => [.. Texts(firstSeed: 1, count, length: 16).Select((text, i) => text[..(1 + (i % 16))])];

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static int[][] Texts(ulong firstSeed, int count, int length)
    {
        using var target = CpuCausalModel.Load(TargetFolder, 1);
        var decoder = new PlainDecoder(target);
        return [.. Enumerable.Range(0, count).Select(i => (int[])[1, .. decoder.Generate([1], new() { MaxNewTokens = length - 1, Temperature = 1, Seed = firstSeed + (ulong)i, IgnoreEos = true }).Ids])];
    }

    private void Make()
    {
        using var target = Decoder.Load(TargetFolder);
        using var draft = new Decoder(target.Config with { NumLayers = 1, HiddenSize = 32, IntermediateSize = 64, NumHeads = 4, NumKeyValueHeads = 2, HeadSize = 8 });
        draft.Initialize(1);
        draft.Save(Path.Join(_folder, "untrained"));
        draft.RequireGradients();
        var examples = Texts(firstSeed: 1_000_000, count: 96, length: 145).Select(ids => new SequenceExample(ids, LossStart: 1)).ToList();
        var model = new TrainedModel([.. draft.Parameters.Select(p => (p.Key, p.Value))], ids => draft.ForwardHidden(ids), (Parameter)draft.HeadWeight);
        using var trainer = new Trainer(model, new PaddedSequences(examples, 1), new() { NumSteps = 200, SequenceLength = 144, BatchSize = 4, LearningRate = 5e-3 });
        trainer.Run(_ => true, CancellationToken.None);
        draft.Save(Path.Join(_folder, "trained"));
    }
}
