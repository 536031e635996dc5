using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;

namespace FastDraft.Modeling.Tests.Decoding;

/// <summary>
/// A toy whose logits depend on the last two tokens and the position, from a seed. Its session keeps what was fed, so a wrong
/// rollback changes later logits.
/// </summary>
internal sealed class TableModel(int vocabularySize, ulong seed, int contextLength = 256, double spread = 3) : ICausalModel
{
    public int VocabularySize => vocabularySize;

    public int ContextLength => contextLength;

    public long NumParameters => vocabularySize;

    public int? LastLength { get; private set; }

    public ICausalSession StartSession(int batch = 1, int? capacity = null) => new Session(this, capacity ?? contextLength);

    public void Logits(ReadOnlySpan<int> context, Span<float> logits)
    {
        var key = CounterRandom.Derive(seed, ((ulong)context.Length * 10007) + ((ulong)context[^1] * 101) + (ulong)(context.Length > 1 ? context[^2] + 1 : 0));
        for (var i = 0; i < logits.Length; i++)
        {
            logits[i] = (float)(spread * CounterRandom.NextUniform(key, i, RandomPurpose.TargetDraw));
        }
    }

    public void Dispose()
    {
    }

    private sealed class Session(TableModel model, int capacity) : ICausalSession
    {
        private readonly int[] _fed = new int[capacity];

        public int Length { get; private set; }

        public int Capacity => capacity;

        public void Forward(ReadOnlySpan<int> tokens, Span<float> logits, int numLogitRows)
        {
            Assert.True(Length + tokens.Length <= capacity, "fed past the capacity");
            Assert.NotEqual(0, tokens.Length);
            foreach (var token in tokens)
            {
                _fed[Length++] = token;
            }

            for (var row = 0; row < numLogitRows; row++)
            {
                model.Logits(
                    _fed.AsSpan(0, Length - numLogitRows + row + 1), logits.Slice(row * model.VocabularySize, model.VocabularySize));
            }
        }

        public void Rollback(int length)
        {
            Assert.InRange(length, 0, Length);
            Length = length;
        }

        public void Dispose() => model.LastLength = Length;
    }
}
