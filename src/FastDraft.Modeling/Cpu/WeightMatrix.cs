using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using FastDraft.Modeling.Checkpoints;

namespace FastDraft.Modeling.Cpu;

/// <summary>
/// Weights [out, in], packed as blocks of 64 outputs ([out / 64][in][64]): a vector holds 16 outputs, so no sum over lanes is needed, and
/// a block is read from its first byte to its last. bfloat16 stays bfloat16 in memory and is widened exactly on its way into the registers: the arithmetic is float32 and half
/// the bytes are read. An output is one chain of fused multiply-adds over the inputs in order, whatever the number of tokens or
/// threads: a token's logits have the same bits alone, in a verification block and in a prompt.
/// </summary>
internal sealed unsafe class WeightMatrix : IDisposable
{
    private const int Lanes = 16;
    private const int BlockSize = 4 * Lanes;
    private const int MaxTokensOfBlock = 5;

    private readonly void* _weights;
    private readonly bool _isBFloat16;

    private WeightMatrix(int numOut, int numIn, bool isBFloat16)
    {
        (NumOut, NumIn, _isBFloat16) = (numOut, numIn, isBFloat16);
        NumBlocks = (numOut + BlockSize - 1) / BlockSize;

        // Whole blocks are computed; the outputs beyond the last one are zero and never stored.
        var numPadded = (long)NumBlocks * BlockSize;
        var bytes = (nuint)(numPadded * numIn * (isBFloat16 ? sizeof(ushort) : sizeof(float)));
        _weights = NativeMemory.AlignedAlloc(bytes, 64);
        NativeMemory.Clear(_weights, bytes);
    }

    private interface IWeights
    {
        /// <summary>Outputs 0 to 15 of the 32 that begin at element <paramref name="at"/>, as float32.</summary>
        static abstract Vector512<float> First(void* weights, long at);

        /// <summary>Outputs 16 to 31 of them.</summary>
        static abstract Vector512<float> Second(void* weights, long at);
    }

    public int NumOut { get; }

    public int NumIn { get; }

    /// <summary>Blocks of 64 outputs: the unit in which a product is divided.</summary>
    public int NumBlocks { get; }

    /// <summary>Stacks tensors with equal input sizes along the output.</summary>
    /// <param name="rounded">Rounds float32 to bfloat16.</param>
    /// <exception cref="CheckpointException">A tensor is missing or of another shape.</exception>
    public static WeightMatrix Load(ISafetensors file, bool rounded, int numIn, params (string Name, int NumOut)[] tensors)
    {
        foreach (var (name, rows) in tensors)
        {
            if (!file.Tensors.TryGetValue(name, out var entry))
            {
                throw new CheckpointException($"The weights have no tensor '{name}', which config.json calls for.");
            }

            if (!entry.Shape.SequenceEqual([(long)rows, numIn]))
            {
                throw new CheckpointException($"Tensor '{name}' has shape [{string.Join(", ", entry.Shape)}], config.json calls for [{rows}, {numIn}].");
            }
        }

        var matrix = new WeightMatrix(tensors.Sum(t => t.NumOut), numIn, rounded || tensors.All(t => file.Tensors[t.Name].Dtype == "BF16"));
        var first = 0;
        foreach (var (name, rows) in tensors)
        {
            if (!matrix._isBFloat16)
            {
                matrix.Pack((float*)matrix._weights, Widened(name, rows), first);
            }
            else if (file.Tensors[name].Dtype == "BF16")
            {
                matrix.Pack((ushort*)matrix._weights, MemoryMarshal.Cast<byte, ushort>(file.Bytes(name)), first);
            }
            else
            {
                matrix.Pack((ushort*)matrix._weights, Array.ConvertAll(Widened(name, rows), RoundToBFloat16), first);
            }

            first += rows;
        }

        return matrix;

        float[] Widened(string name, int rows)
        {
            var values = new float[checked(rows * numIn)];
            file.ReadFloat32(name, values);
            return values;
        }
    }

    /// <summary>The weights of one output, widened to float32.</summary>
    public void ReadRow(int row, float* destination)
    {
        var at = ((long)(row / BlockSize) * NumIn * BlockSize) + Position(row);
        for (var i = 0; i < NumIn; i++, at += BlockSize)
        {
            destination[i] = _isBFloat16 ? BitConverter.UInt32BitsToSingle((uint)((ushort*)_weights)[at] << 16) : ((float*)_weights)[at];
        }
    }

    /// <summary>
    /// output[token, o] (+)= sum_i input[token, i] weights[o, i] for the blocks of outputs from <paramref name="start"/> to
    /// <paramref name="end"/>. input is [numTokens, in], output [numTokens, out].
    /// </summary>
    public void Multiply(float* input, float* output, int numTokens, int start, int end, bool add)
    {
        if (_isBFloat16)
        {
            Multiply<BFloat16>(input, output, numTokens, start, end, add);
        }
        else
        {
            Multiply<Float32>(input, output, numTokens, start, end, add);
        }
    }

    public void Dispose() => NativeMemory.AlignedFree(_weights);

    /// <summary>To nearest, ties to even. Weights are finite, so the carry cannot make a NaN.</summary>
    private static ushort RoundToBFloat16(float value)
    {
        var bits = BitConverter.SingleToUInt32Bits(value);
        return (ushort)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }

    private void Multiply<TWeights>(float* input, float* output, int numTokens, int start, int end, bool add)
        where TWeights : struct, IWeights
    {
        var sums = stackalloc float[MaxTokensOfBlock * BlockSize];
        for (var block = start; block < end; block++)
        {
            var numRows = Math.Min(BlockSize, NumOut - (block * BlockSize));
            for (var token = 0; token < numTokens;)
            {
                var x = input + ((long)token * NumIn);
                int count;
                switch (numTokens - token)
                {
                    case 1:
                        Block1<TWeights>(block, x, sums);
                        count = 1;
                        break;
                    case 2:
                        Block2<TWeights>(block, x, sums);
                        count = 2;
                        break;
                    case 3 or 6 or 9:
                        Block3<TWeights>(block, x, sums);
                        count = 3;
                        break;
                    case 5:
                        Block5<TWeights>(block, x, sums);
                        count = 5;
                        break;
                    default:
                        Block4<TWeights>(block, x, sums);
                        count = 4;
                        break;
                }

                for (var t = 0; t < count; t++, token++)
                {
                    var y = new Span<float>(output + ((long)token * NumOut) + (block * BlockSize), numRows);
                    var sum = new ReadOnlySpan<float>(sums + (t * BlockSize), numRows);
                    if (add)
                    {
                        TensorPrimitives.Add(y, sum, y);
                    }
                    else
                    {
                        sum.CopyTo(y);
                    }
                }
            }
        }
    }

    private void Pack<T>(T* packed, ReadOnlySpan<T> rows, int first)
        where T : unmanaged
    {
        for (var row = 0; row < rows.Length / NumIn; row++)
        {
            var at = ((long)((first + row) / BlockSize) * NumIn * BlockSize) + Position(first + row);
            var source = rows.Slice(row * NumIn, NumIn);
            for (var i = 0; i < NumIn; i++, at += BlockSize)
            {
                packed[at] = source[i];
            }
        }
    }

    // The 64 outputs of a block for 1 to 5 tokens, to sums [tokens, 64]. Written out and without a call, because the sums must stay in
    // registers; optimized from the first call,
    // because a short generation would otherwise end before the runtime finds out that this is where its time goes.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Block1<TWeights>(int block, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        var at = (long)block * NumIn * BlockSize;
        Vector512<float> s00 = default;
        Vector512<float> s10 = default;
        Vector512<float> s20 = default;
        Vector512<float> s30 = default;
        for (var i = 0; i < NumIn; i++, at += BlockSize)
        {
            var v0 = Vector512.Create(x[i]);
            var w = TWeights.First(_weights, at);
            s00 = Vector512.FusedMultiplyAdd(w, v0, s00);
            w = TWeights.Second(_weights, at);
            s10 = Vector512.FusedMultiplyAdd(w, v0, s10);
            w = TWeights.First(_weights, at + 32);
            s20 = Vector512.FusedMultiplyAdd(w, v0, s20);
            w = TWeights.Second(_weights, at + 32);
            s30 = Vector512.FusedMultiplyAdd(w, v0, s30);
        }

        s00.Store(sums);
        s10.Store(sums + 16);
        s20.Store(sums + 32);
        s30.Store(sums + 48);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Block2<TWeights>(int block, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        var at = (long)block * NumIn * BlockSize;
        Vector512<float> s00 = default, s01 = default;
        Vector512<float> s10 = default, s11 = default;
        Vector512<float> s20 = default, s21 = default;
        Vector512<float> s30 = default, s31 = default;
        float* x1 = x + NumIn;
        for (var i = 0; i < NumIn; i++, at += BlockSize)
        {
            var v0 = Vector512.Create(x[i]);
            var v1 = Vector512.Create(x1[i]);
            var w = TWeights.First(_weights, at);
            s00 = Vector512.FusedMultiplyAdd(w, v0, s00);
            s01 = Vector512.FusedMultiplyAdd(w, v1, s01);
            w = TWeights.Second(_weights, at);
            s10 = Vector512.FusedMultiplyAdd(w, v0, s10);
            s11 = Vector512.FusedMultiplyAdd(w, v1, s11);
            w = TWeights.First(_weights, at + 32);
            s20 = Vector512.FusedMultiplyAdd(w, v0, s20);
            s21 = Vector512.FusedMultiplyAdd(w, v1, s21);
            w = TWeights.Second(_weights, at + 32);
            s30 = Vector512.FusedMultiplyAdd(w, v0, s30);
            s31 = Vector512.FusedMultiplyAdd(w, v1, s31);
        }

        s00.Store(sums);
        s10.Store(sums + 16);
        s20.Store(sums + 32);
        s30.Store(sums + 48);
        s01.Store(sums + 64);
        s11.Store(sums + 80);
        s21.Store(sums + 96);
        s31.Store(sums + 112);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Block3<TWeights>(int block, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        var at = (long)block * NumIn * BlockSize;
        Vector512<float> s00 = default, s01 = default, s02 = default;
        Vector512<float> s10 = default, s11 = default, s12 = default;
        Vector512<float> s20 = default, s21 = default, s22 = default;
        Vector512<float> s30 = default, s31 = default, s32 = default;
        float* x1 = x + NumIn, x2 = x1 + NumIn;
        for (var i = 0; i < NumIn; i++, at += BlockSize)
        {
            var v0 = Vector512.Create(x[i]);
            var v1 = Vector512.Create(x1[i]);
            var v2 = Vector512.Create(x2[i]);
            var w = TWeights.First(_weights, at);
            s00 = Vector512.FusedMultiplyAdd(w, v0, s00);
            s01 = Vector512.FusedMultiplyAdd(w, v1, s01);
            s02 = Vector512.FusedMultiplyAdd(w, v2, s02);
            w = TWeights.Second(_weights, at);
            s10 = Vector512.FusedMultiplyAdd(w, v0, s10);
            s11 = Vector512.FusedMultiplyAdd(w, v1, s11);
            s12 = Vector512.FusedMultiplyAdd(w, v2, s12);
            w = TWeights.First(_weights, at + 32);
            s20 = Vector512.FusedMultiplyAdd(w, v0, s20);
            s21 = Vector512.FusedMultiplyAdd(w, v1, s21);
            s22 = Vector512.FusedMultiplyAdd(w, v2, s22);
            w = TWeights.Second(_weights, at + 32);
            s30 = Vector512.FusedMultiplyAdd(w, v0, s30);
            s31 = Vector512.FusedMultiplyAdd(w, v1, s31);
            s32 = Vector512.FusedMultiplyAdd(w, v2, s32);
        }

        s00.Store(sums);
        s10.Store(sums + 16);
        s20.Store(sums + 32);
        s30.Store(sums + 48);
        s01.Store(sums + 64);
        s11.Store(sums + 80);
        s21.Store(sums + 96);
        s31.Store(sums + 112);
        s02.Store(sums + 128);
        s12.Store(sums + 144);
        s22.Store(sums + 160);
        s32.Store(sums + 176);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Block4<TWeights>(int block, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        var at = (long)block * NumIn * BlockSize;
        Vector512<float> s00 = default, s01 = default, s02 = default, s03 = default;
        Vector512<float> s10 = default, s11 = default, s12 = default, s13 = default;
        Vector512<float> s20 = default, s21 = default, s22 = default, s23 = default;
        Vector512<float> s30 = default, s31 = default, s32 = default, s33 = default;
        float* x1 = x + NumIn, x2 = x1 + NumIn, x3 = x2 + NumIn;
        for (var i = 0; i < NumIn; i++, at += BlockSize)
        {
            var v0 = Vector512.Create(x[i]);
            var v1 = Vector512.Create(x1[i]);
            var v2 = Vector512.Create(x2[i]);
            var v3 = Vector512.Create(x3[i]);
            var w = TWeights.First(_weights, at);
            s00 = Vector512.FusedMultiplyAdd(w, v0, s00);
            s01 = Vector512.FusedMultiplyAdd(w, v1, s01);
            s02 = Vector512.FusedMultiplyAdd(w, v2, s02);
            s03 = Vector512.FusedMultiplyAdd(w, v3, s03);
            w = TWeights.Second(_weights, at);
            s10 = Vector512.FusedMultiplyAdd(w, v0, s10);
            s11 = Vector512.FusedMultiplyAdd(w, v1, s11);
            s12 = Vector512.FusedMultiplyAdd(w, v2, s12);
            s13 = Vector512.FusedMultiplyAdd(w, v3, s13);
            w = TWeights.First(_weights, at + 32);
            s20 = Vector512.FusedMultiplyAdd(w, v0, s20);
            s21 = Vector512.FusedMultiplyAdd(w, v1, s21);
            s22 = Vector512.FusedMultiplyAdd(w, v2, s22);
            s23 = Vector512.FusedMultiplyAdd(w, v3, s23);
            w = TWeights.Second(_weights, at + 32);
            s30 = Vector512.FusedMultiplyAdd(w, v0, s30);
            s31 = Vector512.FusedMultiplyAdd(w, v1, s31);
            s32 = Vector512.FusedMultiplyAdd(w, v2, s32);
            s33 = Vector512.FusedMultiplyAdd(w, v3, s33);
        }

        s00.Store(sums);
        s10.Store(sums + 16);
        s20.Store(sums + 32);
        s30.Store(sums + 48);
        s01.Store(sums + 64);
        s11.Store(sums + 80);
        s21.Store(sums + 96);
        s31.Store(sums + 112);
        s02.Store(sums + 128);
        s12.Store(sums + 144);
        s22.Store(sums + 160);
        s32.Store(sums + 176);
        s03.Store(sums + 192);
        s13.Store(sums + 208);
        s23.Store(sums + 224);
        s33.Store(sums + 240);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Block5<TWeights>(int block, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        var at = (long)block * NumIn * BlockSize;
        Vector512<float> s00 = default, s01 = default, s02 = default, s03 = default, s04 = default;
        Vector512<float> s10 = default, s11 = default, s12 = default, s13 = default, s14 = default;
        Vector512<float> s20 = default, s21 = default, s22 = default, s23 = default, s24 = default;
        Vector512<float> s30 = default, s31 = default, s32 = default, s33 = default, s34 = default;
        float* x1 = x + NumIn, x2 = x1 + NumIn, x3 = x2 + NumIn, x4 = x3 + NumIn;
        for (var i = 0; i < NumIn; i++, at += BlockSize)
        {
            var v0 = Vector512.Create(x[i]);
            var v1 = Vector512.Create(x1[i]);
            var v2 = Vector512.Create(x2[i]);
            var v3 = Vector512.Create(x3[i]);
            var v4 = Vector512.Create(x4[i]);
            var w = TWeights.First(_weights, at);
            s00 = Vector512.FusedMultiplyAdd(w, v0, s00);
            s01 = Vector512.FusedMultiplyAdd(w, v1, s01);
            s02 = Vector512.FusedMultiplyAdd(w, v2, s02);
            s03 = Vector512.FusedMultiplyAdd(w, v3, s03);
            s04 = Vector512.FusedMultiplyAdd(w, v4, s04);
            w = TWeights.Second(_weights, at);
            s10 = Vector512.FusedMultiplyAdd(w, v0, s10);
            s11 = Vector512.FusedMultiplyAdd(w, v1, s11);
            s12 = Vector512.FusedMultiplyAdd(w, v2, s12);
            s13 = Vector512.FusedMultiplyAdd(w, v3, s13);
            s14 = Vector512.FusedMultiplyAdd(w, v4, s14);
            w = TWeights.First(_weights, at + 32);
            s20 = Vector512.FusedMultiplyAdd(w, v0, s20);
            s21 = Vector512.FusedMultiplyAdd(w, v1, s21);
            s22 = Vector512.FusedMultiplyAdd(w, v2, s22);
            s23 = Vector512.FusedMultiplyAdd(w, v3, s23);
            s24 = Vector512.FusedMultiplyAdd(w, v4, s24);
            w = TWeights.Second(_weights, at + 32);
            s30 = Vector512.FusedMultiplyAdd(w, v0, s30);
            s31 = Vector512.FusedMultiplyAdd(w, v1, s31);
            s32 = Vector512.FusedMultiplyAdd(w, v2, s32);
            s33 = Vector512.FusedMultiplyAdd(w, v3, s33);
            s34 = Vector512.FusedMultiplyAdd(w, v4, s34);
        }

        s00.Store(sums);
        s10.Store(sums + 16);
        s20.Store(sums + 32);
        s30.Store(sums + 48);
        s01.Store(sums + 64);
        s11.Store(sums + 80);
        s21.Store(sums + 96);
        s31.Store(sums + 112);
        s02.Store(sums + 128);
        s12.Store(sums + 144);
        s22.Store(sums + 160);
        s32.Store(sums + 176);
        s03.Store(sums + 192);
        s13.Store(sums + 208);
        s23.Store(sums + 224);
        s33.Store(sums + 240);
        s04.Store(sums + 256);
        s14.Store(sums + 272);
        s24.Store(sums + 288);
        s34.Store(sums + 304);
    }

    /// <summary>Element of a block's row at which an output lies: of 32 bfloat16, output o and o + 16 share a 32-bit lane.</summary>
    private int Position(int output)
    {
        var pair = output % (2 * Lanes);
        var half = output % BlockSize - pair;
        return half + (!_isBFloat16 ? pair : pair < Lanes ? 2 * pair : (2 * (pair - Lanes)) + 1);
    }

    private readonly struct BFloat16 : IWeights
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> First(void* weights, long at) => (Vector512.Load((uint*)((ushort*)weights + at)) << 16).AsSingle();

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Second(void* weights, long at) => (Vector512.Load((uint*)((ushort*)weights + at)) & Vector512.Create(0xffff0000u)).AsSingle();
    }

    private readonly struct Float32 : IWeights
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> First(void* weights, long at) => Vector512.Load((float*)weights + at);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Second(void* weights, long at) => Vector512.Load((float*)weights + at + Lanes);
    }
}
