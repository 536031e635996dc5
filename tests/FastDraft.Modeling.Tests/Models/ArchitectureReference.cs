using System.Runtime.InteropServices;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;
using FastDraft.TestKit;

namespace FastDraft.Modeling.Tests.Models;

/// <summary>Logits [Rows, Length, V] and a greedy continuation that the reference implementation computed for a small model of an architecture.</summary>
internal sealed record ArchitectureReference(int[] Ids, int Rows, int Length, float[] Logits, int[] Prompt, int[] Greedy)
{
    public static ArchitectureReference Load(string name)
    {
        using var golden = SafetensorsFile.Open(Path.Join(SharedAssets.Path("golden", "architectures", name), "reference.safetensors"));
        var shape = golden.Tensors["input_ids"].Shape;
        var logits = new float[golden.Tensors["logits"].Shape.Aggregate(1L, (a, b) => a * b)];
        golden.ReadFloat32("logits", logits);
        return new(Ints("input_ids"), (int)shape[0], (int)shape[1], logits, Ints("greedy_prompt"), Ints("greedy_output"));

        int[] Ints(string tensor) => MemoryMarshal.Cast<byte, int>(golden.Bytes(tensor)).ToArray();
    }

    /// <summary>All logits in one forward, the greedy continuation token by token, and the same through a session that went another way first.</summary>
    public static void Compare(string name, Func<string, ICausalModel> load)
    {
        var reference = Load(name);
        using var model = load(SharedAssets.Path("golden", "architectures", name));
        using (var session = model.StartSession(reference.Rows))
        {
            var actual = new float[reference.Logits.Length];
            session.Forward(reference.Ids, actual, reference.Length);
            Assert.True(reference.Logits.Zip(actual, (e, a) => Math.Abs(e - a)).Max() <= 1e-4f);

            // The last positions again, after a rollback to where a sequence still was short, and one by one.
            var (last, v) = (reference.Length - 40, model.VocabularySize);
            session.Rollback(last);
            var rows = new float[reference.Rows * v];
            for (var position = last; position < reference.Length; position++)
            {
                session.Forward([.. Enumerable.Range(0, reference.Rows).Select(r => reference.Ids[(r * reference.Length) + position])], rows, 1);
            }

            for (var row = 0; row < reference.Rows; row++)
            {
                var expected = reference.Logits.AsSpan((((row * reference.Length) + reference.Length - 1) * v), v).ToArray();
                Assert.True(expected.Zip(rows[(row * v)..], (e, a) => Math.Abs(e - a)).Max() <= 1e-4f);
            }
        }

        // The reference's continuation holds the prompt.
        var written = reference.Greedy[reference.Prompt.Length..];
        Assert.Equal(written, new PlainDecoder(model).Generate(reference.Prompt, new GenerationOptions { MaxNewTokens = written.Length, IgnoreEos = true }).Ids);
    }
}
