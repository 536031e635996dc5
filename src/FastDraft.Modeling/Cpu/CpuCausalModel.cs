// Shapes: N rows (batch x tokens fed), D hidden, V vocabulary, H heads, K key-value heads, S head size, F intermediate.
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using FastDraft.Modeling.Checkpoints;
using FastDraft.Modeling.Models;

namespace FastDraft.Modeling.Cpu;

/// <summary>
/// The decoder for text generation on a CPU, in float32. At batch 1 a tensor library spends more on calling operations than on
/// reading the weights of a small model; here a step is one pass over them. Parameters are those of <see cref="Decoder"/>.
/// </summary>
public sealed class CpuCausalModel : ICausalModel
{
    private readonly bool _ownsSharing;

    private CpuCausalModel(DecoderConfig config, ISafetensors weights, bool rounded, WorkSharing sharing, bool ownsSharing)
    {
        Config = config;
        var (hidden, heads, keyValue) = (config.HiddenSize, config.NumHeads * config.HeadSize, config.NumKeyValueHeads * config.HeadSize);
        Embedding = WeightMatrix.Load(weights, rounded, hidden, ("model.embed_tokens.weight", config.VocabularySize));
        Head = config.TieWordEmbeddings ? Embedding : WeightMatrix.Load(weights, rounded, hidden, ("lm_head.weight", config.VocabularySize));
        FinalNorm = Vector("model.norm.weight");
        Layers = [.. Enumerable.Range(0, config.NumLayers).Select(i => $"model.layers.{i}.").Select(p => new Layer(
            Vector(p + "input_layernorm.weight"),
            WeightMatrix.Load(weights, rounded, hidden, (p + "self_attn.q_proj.weight", heads), (p + "self_attn.k_proj.weight", keyValue), (p + "self_attn.v_proj.weight", keyValue)),
            WeightMatrix.Load(weights, rounded, heads, (p + "self_attn.o_proj.weight", hidden)),
            Vector(p + "post_attention_layernorm.weight"),
            WeightMatrix.Load(weights, rounded, hidden, (p + "mlp.gate_proj.weight", config.IntermediateSize), (p + "mlp.up_proj.weight", config.IntermediateSize)),
            WeightMatrix.Load(weights, rounded, config.IntermediateSize, (p + "mlp.down_proj.weight", hidden))))];
        Rope = RotaryPositions.Tables(config, isLong: false);
        LongRope = RotaryPositions.IsLong(config, config.MaxPositions) ? RotaryPositions.Tables(config, isLong: true) : null;
        Sharing = sharing;
        _ownsSharing = ownsSharing;

        float[] Vector(string name)
        {
            var values = new float[hidden];
            weights.ReadFloat32(name, values);
            return values;
        }
    }

    public DecoderConfig Config { get; }

    public int VocabularySize => Config.VocabularySize;

    public int ContextLength => Config.MaxPositions;

    public long NumParameters => Config.NumParameters;

    public int NumThreads => Sharing.NumThreads;

    internal WeightMatrix Embedding { get; }

    internal WeightMatrix Head { get; }

    internal float[] FinalNorm { get; }

    internal IReadOnlyList<Layer> Layers { get; }

    /// <summary>[positions, S / 2] each.</summary>
    internal (float[] Cos, float[] Sin) Rope { get; }

    /// <summary>Null where sequences of all lengths turn alike.</summary>
    internal (float[] Cos, float[] Sin)? LongRope { get; }

    internal WorkSharing Sharing { get; }

    /// <param name="folder">Hugging Face folder.</param>
    /// <param name="numThreads">Threads of its own; by default it shares those of the process.</param>
    /// <param name="rounded">
    /// Keeps matrices of float32 in bfloat16, rounded to nearest even. Meant for drafts: the target's weights push a draft out of the caches between
    /// two of its turns, so half the bytes take half the time, and a draft's rounding cannot change the text.
    /// </param>
    /// <exception cref="CheckpointException">The folder is not a usable Llama-family checkpoint.</exception>
    public static CpuCausalModel Load(string folder, int? numThreads = null, bool rounded = false)
    {
        var config = DecoderConfig.Load(folder);
        using var weights = config.OpenWeights(folder);
        return new CpuCausalModel(config, weights, rounded, numThreads is { } own ? new WorkSharing(own) : WorkSharing.Shared, numThreads is not null);
    }

    public ICausalSession StartSession(int batch = 1, int? capacity = null) =>
        new CpuCausalSession(this, batch, Math.Min(capacity ?? ContextLength, ContextLength));

    public void Dispose()
    {
        if (_ownsSharing)
        {
            Sharing.Dispose();
        }

        if (!ReferenceEquals(Head, Embedding))
        {
            Head.Dispose();
        }

        Embedding.Dispose();
        foreach (var layer in Layers)
        {
            layer.QueryKeyValue.Dispose();
            layer.Output.Dispose();
            layer.GateUp.Dispose();
            layer.Down.Dispose();
        }
    }

    internal sealed record Layer(float[] InputNorm, WeightMatrix QueryKeyValue, WeightMatrix Output, float[] PostNorm, WeightMatrix GateUp, WeightMatrix Down);
}

/// <summary>
/// Values [layer][sequence, K, capacity, S] and keys [layer][sequence, K, capacity / 8, S, 8], where a vector holds 8 positions;
/// float32. Rollback only moves the length.
/// </summary>
internal sealed unsafe class CpuCausalSession : ICausalSession
{
    private const int Lanes = 8;

    /// <summary>Positions scored at once: a sum of one vector would wait for its own last multiply-add, those of eight do not wait for each other.</summary>
    private const int PositionsOfScore = 8 * Lanes;

    /// <summary>
    /// Multiply-adds from which on a chunk is worth handing to another thread: some microseconds. With less, a core that the machine lends
    /// to others for a moment costs more than it gives.
    /// </summary>
    private const long WorkOfChunk = 1 << 18;

    /// <summary>Elements of row-wise work (norms, rotary positions, gates) from which on a chunk is worth it.</summary>
    private const int WidthOfChunk = 1 << 13;

    private readonly CpuCausalModel _model;
    private readonly int _batch;
    private readonly int _paddedCapacity;
    private readonly float[][] _keys;
    private readonly float[][] _values;
    private readonly int[]? _history;
    private readonly MultiplyWork _multiply = new();
    private readonly AttendWork _attend;
    private readonly RowWork _normalize;
    private readonly RowWork _rotate;
    private readonly RowWork _gate;
    private bool _isLong;
    private (int Layer, int Count) _rotated;
    private (float[] Weight, nint Input, nint Output) _normalized;
    private int _numRows;
    private float* _hidden;
    private float* _normed;
    private float* _projected;
    private float* _mixed;
    private float* _gateUp;

    public CpuCausalSession(CpuCausalModel model, int batch, int capacity)
    {
        (_model, _batch, Capacity) = (model, batch, capacity);
        _paddedCapacity = (capacity + PositionsOfScore - 1) / PositionsOfScore * PositionsOfScore;
        var size = checked(batch * model.Config.NumKeyValueHeads * _paddedCapacity * model.Config.HeadSize);
        _keys = [.. model.Layers.Select(_ => new float[size])];
        _values = [.. model.Layers.Select(_ => new float[size])];
        _history = RotaryPositions.IsLong(model.Config, capacity) ? new int[batch * capacity] : null;
        _attend = new AttendWork(this);
        _normalize = new RowWork(NormalizeRows);
        _rotate = new RowWork(RotateAndCacheRows);
        _gate = new RowWork(GateRows);
    }

    public int Length { get; private set; }

    public int Capacity { get; }

    public void Forward(ReadOnlySpan<int> tokens, Span<float> logits, int numLogitRows)
    {
        var config = _model.Config;
        var count = tokens.Length / _batch;
        if (count == 0 || count * _batch != tokens.Length || Length + count > Capacity || numLogitRows > count)
        {
            throw new ArgumentException($"{tokens.Length} tokens for {_batch} sequences, {Length} of {Capacity} positions used, {numLogitRows} logit rows wanted.", nameof(tokens));
        }

        if (logits.Length != _batch * numLogitRows * config.VocabularySize)
        {
            throw new ArgumentException($"Logits hold {logits.Length} values, {_batch} x {numLogitRows} x {config.VocabularySize} are written.", nameof(logits));
        }

        foreach (var token in tokens)
        {
            if ((uint)token >= (uint)config.VocabularySize)
            {
                throw new ArgumentException($"Token id {token} lies outside the vocabulary of {config.VocabularySize}.", nameof(tokens));
            }
        }

        if (_history is null)
        {
            ForwardCached(tokens, logits, numLogitRows);
            return;
        }

        // A block that crosses the original context: rows before it are what they are when tokens come one by one.
        var numShort = Length == 0 ? 0 : Math.Clamp(config.LongRope!.OriginalPositions - Length, 0, count);
        var rest = count - numShort;
        if (numShort == 0 || rest == 0)
        {
            ForwardTurned(tokens, logits, numLogitRows);
            return;
        }

        var (rowsBefore, rowsAfter) = (Math.Max(0, numLogitRows - rest), Math.Min(numLogitRows, rest));
        var (before, after) = (new float[_batch * rowsBefore * config.VocabularySize], new float[_batch * rowsAfter * config.VocabularySize]);
        ForwardTurned(Columns(tokens, count, 0, numShort), before, rowsBefore);
        ForwardTurned(Columns(tokens, count, numShort, rest), after, rowsAfter);
        for (var sequence = 0; sequence < _batch; sequence++)
        {
            var part = logits.Slice(sequence * numLogitRows * config.VocabularySize, numLogitRows * config.VocabularySize);
            before.AsSpan(sequence * rowsBefore * config.VocabularySize, rowsBefore * config.VocabularySize).CopyTo(part);
            after.AsSpan(sequence * rowsAfter * config.VocabularySize, rowsAfter * config.VocabularySize).CopyTo(part[(rowsBefore * config.VocabularySize)..]);
        }
    }

    public void Rollback(int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, Length);
        Length = length;
    }

    public void Dispose() => Release();

    /// <summary>Columns [start, start + count) of [batch, width].</summary>
    private int[] Columns(ReadOnlySpan<int> values, int width, int start, int count)
    {
        var columns = new int[_batch * count];
        for (var sequence = 0; sequence < _batch; sequence++)
        {
            values.Slice((sequence * width) + start, count).CopyTo(columns.AsSpan(sequence * count));
        }

        return columns;
    }

    /// <summary>A forward of positions that all turn alike, as a sequence of their length does: what is cached otherwise is computed anew.</summary>
    private void ForwardTurned(ReadOnlySpan<int> tokens, Span<float> logits, int numLogitRows)
    {
        var (start, count) = (Length, tokens.Length / _batch);
        for (var sequence = 0; sequence < _batch; sequence++)
        {
            tokens.Slice(sequence * count, count).CopyTo(_history.AsSpan((sequence * Capacity) + start));
        }

        var isLong = RotaryPositions.IsLong(_model.Config, start + count);
        if (start > 0 && isLong != _isLong)
        {
            (_isLong, Length) = (isLong, 0);
            ForwardCached(Columns(_history, Capacity, 0, start), [], 0);
        }

        _isLong = isLong;
        ForwardCached(tokens, logits, numLogitRows);
    }

    private void ForwardCached(ReadOnlySpan<int> tokens, Span<float> logits, int numLogitRows)
    {
        var config = _model.Config;
        var count = tokens.Length / _batch;
        var numRows = tokens.Length;
        Reserve(numRows);
        var hidden = config.HiddenSize;
        for (var row = 0; row < numRows; row++)
        {
            _model.Embedding.ReadRow(tokens[row], _hidden + ((long)row * hidden));
        }

        for (var l = 0; l < config.NumLayers; l++)
        {
            var layer = _model.Layers[l];
            Normalize(_hidden, _normed, numRows, layer.InputNorm);
            Multiply(layer.QueryKeyValue, _normed, _projected, numRows, add: false);
            RotateAndCache(l, numRows, count);
            _attend.Prepare(_keys[l], _values[l], count);
            _model.Sharing.Run(_attend, numRows * config.NumHeads, Math.Max(1, (int)(WorkOfChunk / (2L * (Length + count) * config.HeadSize))));
            Multiply(layer.Output, _mixed, _hidden, numRows, add: true);
            Normalize(_hidden, _normed, numRows, layer.PostNorm);
            Multiply(layer.GateUp, _normed, _gateUp, numRows, add: false);
            Gate(numRows);
            Multiply(layer.Down, _mixed, _hidden, numRows, add: true);
        }

        Length += count;
        if (numLogitRows == 0)
        {
            return;
        }

        // The wanted rows lie at the end of each sequence: packed together, the head is one product.
        for (var sequence = 0; sequence < _batch; sequence++)
        {
            Normalize(
                _hidden + ((((long)sequence * count) + count - numLogitRows) * hidden), _normed + ((long)sequence * numLogitRows * hidden), numLogitRows, _model.FinalNorm);
        }

        fixed (float* destination = logits)
        {
            Multiply(_model.Head, _normed, destination, _batch * numLogitRows, add: false);
        }
    }

    private void Multiply(WeightMatrix matrix, float* input, float* output, int numRows, bool add)
    {
        _multiply.Prepare(matrix, input, output, numRows, add);

        // Equal parts, as many for each thread: the last to end is the one that is waited for.
        var numParts = (int)Math.Clamp(64L * matrix.NumIn * numRows * matrix.NumBlocks / WorkOfChunk, 1, matrix.NumBlocks);
        if (numParts > 1)
        {
            numParts = (numParts + _model.NumThreads - 1) / _model.NumThreads * _model.NumThreads;
        }

        _model.Sharing.Run(_multiply, matrix.NumBlocks, (matrix.NumBlocks + numParts - 1) / numParts);
    }

    /// <summary>Rows are independent of each other; few are not worth a second thread.</summary>
    private void Rows(RowWork work, int numRows, int width) => _model.Sharing.Run(work, numRows, Math.Max(1, WidthOfChunk / width));

    private void Normalize(float* input, float* output, int numRows, float[] weight)
    {
        _normalized = (weight, (nint)input, (nint)output);
        Rows(_normalize, numRows, weight.Length);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void NormalizeRows(int start, int end)
    {
        var weight = _normalized.Weight;
        var input = (float*)_normalized.Input;
        var output = (float*)_normalized.Output;
        var hidden = weight.Length;
        for (var row = start; row < end; row++)
        {
            var source = new ReadOnlySpan<float>(input + ((long)row * hidden), hidden);
            var destination = new Span<float>(output + ((long)row * hidden), hidden);
            var scale = 1f / MathF.Sqrt((TensorPrimitives.SumOfSquares(source) / hidden) + (float)_model.Config.RmsNormEpsilon);
            TensorPrimitives.Multiply(source, scale, destination);
            TensorPrimitives.Multiply(destination, weight, destination);
        }
    }

    private void RotateAndCache(int layer, int numRows, int count)
    {
        _rotated = (layer, count);
        Rows(_rotate, numRows, (_model.Config.NumHeads + (2 * _model.Config.NumKeyValueHeads)) * _model.Config.HeadSize);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void RotateAndCacheRows(int start, int end)
    {
        var config = _model.Config;
        var (size, half, heads, keyValueHeads) = (config.HeadSize, config.HeadSize / 2, config.NumHeads, config.NumKeyValueHeads);
        var width = (heads + (2 * keyValueHeads)) * size;
        var (layer, count) = _rotated;
        var (cosines, sines) = _isLong ? _model.LongRope!.Value : _model.Rope;
        fixed (float* keys = _keys[layer], values = _values[layer], cos = cosines, sin = sines)
        {
            for (var row = start; row < end; row++)
            {
                var position = Length + (row % count);
                var projected = _projected + ((long)row * width);
                for (var head = 0; head < heads + keyValueHeads; head++)
                {
                    Rotate(projected + (head * size), cos + (position * half), sin + (position * half), half);
                }

                for (var head = 0; head < keyValueHeads; head++)
                {
                    var first = ((row / count * keyValueHeads) + head) * _paddedCapacity * size;
                    new ReadOnlySpan<float>(projected + ((heads + keyValueHeads + head) * size), size).CopyTo(new Span<float>(values + first + (position * size), size));
                    var key = projected + ((heads + head) * size);
                    var at = keys + first + (position / Lanes * size * Lanes) + (position % Lanes);
                    for (var i = 0; i < size; i++, at += Lanes)
                    {
                        *at = key[i];
                    }
                }
            }
        }
    }

    /// <summary>Half-split rotary positions: element i turns with element i + half.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Rotate(float* x, float* cos, float* sin, int half)
    {
        var i = 0;
        for (; i + Lanes <= half; i += Lanes)
        {
            var (first, second) = (Vector256.Load(x + i), Vector256.Load(x + i + half));
            var (c, s) = (Vector256.Load(cos + i), Vector256.Load(sin + i));
            ((first * c) - (second * s)).Store(x + i);
            ((second * c) + (first * s)).Store(x + i + half);
        }

        for (; i < half; i++)
        {
            (x[i], x[i + half]) = ((x[i] * cos[i]) - (x[i + half] * sin[i]), (x[i + half] * cos[i]) + (x[i] * sin[i]));
        }
    }

    /// <summary>mixed = silu(gate) * up</summary>
    private void Gate(int numRows) => Rows(_gate, numRows, 4 * _model.Config.IntermediateSize);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void GateRows(int start, int end)
    {
        var size = _model.Config.IntermediateSize;
        for (var row = start; row < end; row++)
        {
            var gate = _gateUp + ((long)row * 2 * size);
            var mixed = _mixed + ((long)row * size);
            var i = 0;
            for (; i + Lanes <= size; i += Lanes)
            {
                Gated(Vector256.Load(gate + i), Vector256.Load(gate + size + i)).Store(mixed + i);
            }

            for (; i < size; i++)
            {
                mixed[i] = Gated(Vector256.Create(gate[i]), Vector256.Create(gate[size + i]))[0];
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Gated(Vector256<float> gate, Vector256<float> up) =>
        gate * up / (Vector256<float>.One + FloatExponential.Of(-gate));

    private void Reserve(int numRows)
    {
        if (numRows <= _numRows)
        {
            return;
        }

        Release();
        var config = _model.Config;
        var mixed = Math.Max(config.NumHeads * config.HeadSize, config.IntermediateSize);
        _hidden = Allocate(config.HiddenSize);
        _normed = Allocate(config.HiddenSize);
        _projected = Allocate((config.NumHeads + (2 * config.NumKeyValueHeads)) * config.HeadSize);
        _mixed = Allocate(mixed);
        _gateUp = Allocate(2 * config.IntermediateSize);
        _numRows = numRows;

        float* Allocate(int width) => (float*)NativeMemory.AlignedAlloc((nuint)((long)numRows * width * sizeof(float)), 64);
    }

    private void Release()
    {
        NativeMemory.AlignedFree(_hidden);
        NativeMemory.AlignedFree(_normed);
        NativeMemory.AlignedFree(_projected);
        NativeMemory.AlignedFree(_mixed);
        NativeMemory.AlignedFree(_gateUp);
        _hidden = _normed = _projected = _mixed = _gateUp = null;
        _numRows = 0;
    }

    private sealed class MultiplyWork : IRangeWork
    {
        private WeightMatrix _matrix = null!;
        private float* _input;
        private float* _output;
        private int _numRows;
        private bool _add;

        public void Prepare(WeightMatrix matrix, float* input, float* output, int numRows, bool add)
        {
            _matrix = matrix;
            _input = input;
            _output = output;
            _numRows = numRows;
            _add = add;
        }

        public void Run(int start, int end) => _matrix.Multiply(_input, _output, _numRows, start, end, _add);
    }

    /// <summary>Attention of one (row, head) an item: the row at position p sees positions 0..p of its sequence.</summary>
    private sealed class AttendWork(CpuCausalSession session) : IRangeWork
    {
        [ThreadStatic]
        private static float[]? _scores;

        private float[] _keys = null!;
        private float[] _values = null!;
        private int _count;

        public void Prepare(float[] keys, float[] values, int count) => (_keys, _values, _count) = (keys, values, count);

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void Run(int start, int end)
        {
            var config = session._model.Config;
            var (size, heads, keyValueHeads) = (config.HeadSize, config.NumHeads, config.NumKeyValueHeads);
            var width = (heads + (2 * keyValueHeads)) * size;
            var scale = 1f / MathF.Sqrt(size);
            if (_scores is null || _scores.Length < session._paddedCapacity)
            {
                _scores = new float[session._paddedCapacity];
            }

            fixed (float* keys = _keys, values = _values, scores = _scores)
            {
                for (var item = start; item < end; item++)
                {
                    var (row, head) = (item / heads, item % heads);
                    var length = session.Length + (row % _count) + 1;
                    var offset = ((row / _count * keyValueHeads) + (head / (heads / keyValueHeads))) * session._paddedCapacity * size;
                    Score(session._projected + ((long)row * width) + (head * size), keys + offset, scores, length, size);
                    var sum = Exponentials(scores, length, scale);
                    Mix(scores, values + offset, session._mixed + ((long)row * heads * size) + (head * size), length, size, 1f / sum);
                }
            }
        }

        /// <summary>scores[position] = query . key, 8 positions a vector; those beyond the length are not used.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static void Score(float* query, float* keys, float* scores, int length, int size)
        {
            var block = size * Lanes;
            for (var position = 0; position < length; position += PositionsOfScore, keys += 8 * block)
            {
                Vector256<float> sum0 = default, sum1 = default, sum2 = default, sum3 = default;
                Vector256<float> sum4 = default, sum5 = default, sum6 = default, sum7 = default;
                for (var i = 0; i < size; i++)
                {
                    var q = Vector256.Create(query[i]);
                    var key = keys + (i * Lanes);
                    sum0 = Vector256.FusedMultiplyAdd(q, Vector256.Load(key), sum0);
                    sum1 = Vector256.FusedMultiplyAdd(q, Vector256.Load(key + block), sum1);
                    sum2 = Vector256.FusedMultiplyAdd(q, Vector256.Load(key + (2 * block)), sum2);
                    sum3 = Vector256.FusedMultiplyAdd(q, Vector256.Load(key + (3 * block)), sum3);
                    sum4 = Vector256.FusedMultiplyAdd(q, Vector256.Load(key + (4 * block)), sum4);
                    sum5 = Vector256.FusedMultiplyAdd(q, Vector256.Load(key + (5 * block)), sum5);
                    sum6 = Vector256.FusedMultiplyAdd(q, Vector256.Load(key + (6 * block)), sum6);
                    sum7 = Vector256.FusedMultiplyAdd(q, Vector256.Load(key + (7 * block)), sum7);
                }

                sum0.Store(scores + position);
                sum1.Store(scores + position + Lanes);
                sum2.Store(scores + position + (2 * Lanes));
                sum3.Store(scores + position + (3 * Lanes));
                sum4.Store(scores + position + (4 * Lanes));
                sum5.Store(scores + position + (5 * Lanes));
                sum6.Store(scores + position + (6 * Lanes));
                sum7.Store(scores + position + (7 * Lanes));
            }
        }

        /// <summary>scores = exp(scale (scores - max)); returns their sum. Whole vectors only, so that a value does not depend on where it lies.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static float Exponentials(float* scores, int length, float scale)
        {
            var last = (length - 1) / Lanes * Lanes;
            var inside = Vector256.LessThan(Vector256<int>.Indices + Vector256.Create(last), Vector256.Create(length)).AsSingle();
            Vector256.ConditionalSelect(inside, Vector256.Load(scores + last), Vector256.Create(float.NegativeInfinity)).Store(scores + last);
            var most = Vector256.Load(scores);
            for (var position = Lanes; position < length; position += Lanes)
            {
                most = Vector256.MaxNative(most, Vector256.Load(scores + position));
            }

            var max = most[0];
            for (var lane = 1; lane < Lanes; lane++)
            {
                max = MathF.Max(max, most[lane]);
            }

            var sum = Vector256<float>.Zero;
            for (var position = 0; position < length; position += Lanes)
            {
                var law = FloatExponential.Of((Vector256.Load(scores + position) - Vector256.Create(max)) * Vector256.Create(scale));
                law.Store(scores + position);
                sum += law;
            }

            return Vector256.Sum(sum);
        }

        /// <summary>mixed = factor * sum over positions of law[position] value[position]; even and odd positions are two chains.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        private static void Mix(float* law, float* values, float* mixed, int length, int size, float factor)
        {
            var i = 0;
            for (; i + (4 * Lanes) <= size; i += 4 * Lanes)
            {
                Vector256<float> even0 = default, even1 = default, even2 = default, even3 = default;
                Vector256<float> odd0 = default, odd1 = default, odd2 = default, odd3 = default;
                var value = values + i;
                var position = 0;
                for (; position + 2 <= length; position += 2, value += 2 * size)
                {
                    var weight = Vector256.Create(law[position]);
                    even0 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(value), even0);
                    even1 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(value + Lanes), even1);
                    even2 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(value + (2 * Lanes)), even2);
                    even3 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(value + (3 * Lanes)), even3);
                    weight = Vector256.Create(law[position + 1]);
                    odd0 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(value + size), odd0);
                    odd1 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(value + size + Lanes), odd1);
                    odd2 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(value + size + (2 * Lanes)), odd2);
                    odd3 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(value + size + (3 * Lanes)), odd3);
                }

                if (position < length)
                {
                    var weight = Vector256.Create(law[position]);
                    even0 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(value), even0);
                    even1 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(value + Lanes), even1);
                    even2 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(value + (2 * Lanes)), even2);
                    even3 = Vector256.FusedMultiplyAdd(weight, Vector256.Load(value + (3 * Lanes)), even3);
                }

                ((even0 + odd0) * Vector256.Create(factor)).Store(mixed + i);
                ((even1 + odd1) * Vector256.Create(factor)).Store(mixed + i + Lanes);
                ((even2 + odd2) * Vector256.Create(factor)).Store(mixed + i + (2 * Lanes));
                ((even3 + odd3) * Vector256.Create(factor)).Store(mixed + i + (3 * Lanes));
            }

            for (; i + Lanes <= size; i += Lanes)
            {
                Vector256<float> even = default, odd = default;
                var value = values + i;
                var position = 0;
                for (; position + 2 <= length; position += 2, value += 2 * size)
                {
                    even = Vector256.FusedMultiplyAdd(Vector256.Create(law[position]), Vector256.Load(value), even);
                    odd = Vector256.FusedMultiplyAdd(Vector256.Create(law[position + 1]), Vector256.Load(value + size), odd);
                }

                if (position < length)
                {
                    even = Vector256.FusedMultiplyAdd(Vector256.Create(law[position]), Vector256.Load(value), even);
                }

                ((even + odd) * Vector256.Create(factor)).Store(mixed + i);
            }

            for (; i < size; i++)
            {
                var sum = 0f;
                for (var position = 0; position < length; position++)
                {
                    sum = MathF.FusedMultiplyAdd(law[position], values[(position * size) + i], sum);
                }

                mixed[i] = sum * factor;
            }
        }
    }

    /// <summary>A range of rows; the method is bound once, a step allocates nothing.</summary>
    private sealed class RowWork(Action<int, int> rows) : IRangeWork
    {
        public void Run(int start, int end) => rows(start, end);
    }
}
