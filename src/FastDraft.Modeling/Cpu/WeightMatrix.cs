using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using FastDraft.Modeling.Checkpoints;

namespace FastDraft.Modeling.Cpu;

/// <summary>
/// Weights [out, in], packed as blocks of 64 outputs and a block as streams of 64 bytes an input: 16 outputs of float32 ([out / 64][4][in][16])
/// or 32 of bfloat16 ([out / 64][2][in][32]). The lanes of a vector are outputs, so no sum over lanes is needed, and a stream is read from its first byte to
/// its last. bfloat16 stays bfloat16 in memory and is widened exactly on its way into the registers: the arithmetic is float32 and half the bytes are read. An output is one chain of fused multiply-adds over the inputs in order, whatever the number of tokens or
/// threads: a token's logits have the same bits alone, in a verification block and in a prompt.
/// </summary>
internal sealed unsafe class WeightMatrix : IDisposable
{
    private const int BlockSize = 64;
    private const int MaxTokensOfBlock = 6;

    /// <summary>What a stream holds for one input: a line of the cache.</summary>
    private const int RowBytes = 64;

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
        /// <summary>Outputs 0 to 15 of a pair of sixteens, as float32.</summary>
        static abstract Vector512<float> First(byte* row);

        /// <summary>Outputs 16 to 31 of it; the row lies <see cref="ToSecond"/> bytes on.</summary>
        static abstract Vector512<float> Second(byte* row);

        static abstract long ToSecond(long streamBytes);

        /// <summary>Bytes from the first pair of sixteens to the second.</summary>
        static abstract long ToPair(long streamBytes);

        /// <summary>Byte at which a quarter of a block begins.</summary>
        static abstract long Quarter(int quarter, long streamBytes);

        /// <summary>Of the 16 outputs of a quarter, the 8 in the lower half of the bytes (float32) or of each lane (bfloat16), as float32.</summary>
        static abstract Vector256<float> Low(byte* row);

        /// <summary>The 8 others.</summary>
        static abstract Vector256<float> High(byte* row);

        /// <summary>Puts the sums of a quarter where its outputs lie among the 64.</summary>
        static abstract void Store(float* sums, int quarter, Vector256<float> low, Vector256<float> high);
    }

    public int NumOut { get; }

    public int NumIn { get; }

    /// <summary>Blocks of 64 outputs: the unit in which a product is divided.</summary>
    public int NumBlocks { get; }

    private long StreamBytes => (long)NumIn * RowBytes;

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
                matrix.Pack<float>(Widened(name, rows), first);
            }
            else if (file.Tensors[name].Dtype == "BF16")
            {
                matrix.Pack(MemoryMarshal.Cast<byte, ushort>(file.Bytes(name)), first);
            }
            else
            {
                matrix.Pack<ushort>(Array.ConvertAll(Widened(name, rows), RoundToBFloat16), first);
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
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void ReadRow(int row, float* destination)
    {
        var at = Position(row);
        for (var i = 0; i < NumIn; i++, at += RowBytes)
        {
            destination[i] = _isBFloat16 ? BitConverter.UInt32BitsToSingle((uint)*(ushort*)((byte*)_weights + at) << 16) : *(float*)((byte*)_weights + at);
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

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Multiply<TWeights>(float* input, float* output, int numTokens, int start, int end, bool add)
        where TWeights : struct, IWeights
    {
        var sums = stackalloc float[MaxTokensOfBlock * BlockSize];
        for (var block = start; block < end; block++)
        {
            var numRows = Math.Min(BlockSize, NumOut - (block * BlockSize));
            var weights = (byte*)_weights + (block * StreamBytes * (_isBFloat16 ? 2 : 4));
            for (var token = 0; token < numTokens;)
            {
                var x = input + ((long)token * NumIn);
                var count = Vector512.IsHardwareAccelerated
                    ? Wide<TWeights>(weights, x, sums, numTokens - token)
                    : Narrow<TWeights>(weights, x, sums, numTokens - token);

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

    private void Pack<T>(ReadOnlySpan<T> rows, int first)
        where T : unmanaged
    {
        for (var row = 0; row < rows.Length / NumIn; row++)
        {
            var at = (byte*)_weights + Position(first + row);
            var source = rows.Slice(row * NumIn, NumIn);
            for (var i = 0; i < NumIn; i++, at += RowBytes)
            {
                *(T*)at = source[i];
            }
        }
    }

    /// <summary>Computes a block for the next tokens of <paramref name="numTokens"/> and returns for how many.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private int Wide<TWeights>(byte* weights, float* x, float* sums, int numTokens)
        where TWeights : struct, IWeights
    {
        switch (numTokens)
        {
            case 1:
                Wide1<TWeights>(weights, x, sums);
                return 1;
            case 2:
                Wide2<TWeights>(weights, x, sums);
                return 2;
            case 3 or 6 or 9:
                Wide3<TWeights>(weights, x, sums);
                return 3;
            case 5:
                Wide5<TWeights>(weights, x, sums);
                return 5;
            default:
                Wide4<TWeights>(weights, x, sums);
                return 4;
        }
    }

    /// <inheritdoc cref="Wide"/>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private int Narrow<TWeights>(byte* weights, float* x, float* sums, int numTokens)
        where TWeights : struct, IWeights
    {
        switch (numTokens)
        {
            case 1:
                Narrow1<TWeights>(weights, x, sums);
                return 1;
            case 3 when typeof(TWeights) == typeof(Float32): // With what widens bfloat16, twelve sums are one register too many.
                Narrow3<TWeights>(weights, x, sums);
                return 3;
            case 2 or 3:
                Narrow2<TWeights>(weights, x, sums);
                return 2;
            case 4 or 7 or 8:
                Narrow4<TWeights>(weights, x, sums);
                return 4;
            case 5 or 9 or 10:
                Narrow5<TWeights>(weights, x, sums);
                return 5;
            default:
                Narrow6<TWeights>(weights, x, sums);
                return 6;
        }
    }

    // The 64 outputs of a block for 1 to 5 tokens, to sums [tokens, 64], where a register holds 16 outputs and there are 32 of them. Written
    // out and without a call, because the sums must stay in registers; optimized from the first call, because a short generation would
    // otherwise end before the runtime finds out that this is where its time goes.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Wide1<TWeights>(byte* weights, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        var toSecond = TWeights.ToSecond(StreamBytes);
        var toPair = TWeights.ToPair(StreamBytes);
        Vector512<float> s00 = default;
        Vector512<float> s10 = default;
        Vector512<float> s20 = default;
        Vector512<float> s30 = default;
        for (var i = 0; i < NumIn; i++, weights += RowBytes)
        {
            var v0 = Vector512.Create(x[i]);
            var w = TWeights.First(weights);
            s00 = Vector512.FusedMultiplyAdd(w, v0, s00);
            w = TWeights.Second(weights + toSecond);
            s10 = Vector512.FusedMultiplyAdd(w, v0, s10);
            w = TWeights.First(weights + toPair);
            s20 = Vector512.FusedMultiplyAdd(w, v0, s20);
            w = TWeights.Second(weights + toPair + toSecond);
            s30 = Vector512.FusedMultiplyAdd(w, v0, s30);
        }

        s00.Store(sums);
        s10.Store(sums + 16);
        s20.Store(sums + 32);
        s30.Store(sums + 48);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Wide2<TWeights>(byte* weights, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        float* x1 = x + NumIn;
        var toSecond = TWeights.ToSecond(StreamBytes);
        var toPair = TWeights.ToPair(StreamBytes);
        Vector512<float> s00 = default, s01 = default;
        Vector512<float> s10 = default, s11 = default;
        Vector512<float> s20 = default, s21 = default;
        Vector512<float> s30 = default, s31 = default;
        for (var i = 0; i < NumIn; i++, weights += RowBytes)
        {
            var v0 = Vector512.Create(x[i]);
            var v1 = Vector512.Create(x1[i]);
            var w = TWeights.First(weights);
            s00 = Vector512.FusedMultiplyAdd(w, v0, s00);
            s01 = Vector512.FusedMultiplyAdd(w, v1, s01);
            w = TWeights.Second(weights + toSecond);
            s10 = Vector512.FusedMultiplyAdd(w, v0, s10);
            s11 = Vector512.FusedMultiplyAdd(w, v1, s11);
            w = TWeights.First(weights + toPair);
            s20 = Vector512.FusedMultiplyAdd(w, v0, s20);
            s21 = Vector512.FusedMultiplyAdd(w, v1, s21);
            w = TWeights.Second(weights + toPair + toSecond);
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
    private void Wide3<TWeights>(byte* weights, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        float* x1 = x + NumIn, x2 = x1 + NumIn;
        var toSecond = TWeights.ToSecond(StreamBytes);
        var toPair = TWeights.ToPair(StreamBytes);
        Vector512<float> s00 = default, s01 = default, s02 = default;
        Vector512<float> s10 = default, s11 = default, s12 = default;
        Vector512<float> s20 = default, s21 = default, s22 = default;
        Vector512<float> s30 = default, s31 = default, s32 = default;
        for (var i = 0; i < NumIn; i++, weights += RowBytes)
        {
            var v0 = Vector512.Create(x[i]);
            var v1 = Vector512.Create(x1[i]);
            var v2 = Vector512.Create(x2[i]);
            var w = TWeights.First(weights);
            s00 = Vector512.FusedMultiplyAdd(w, v0, s00);
            s01 = Vector512.FusedMultiplyAdd(w, v1, s01);
            s02 = Vector512.FusedMultiplyAdd(w, v2, s02);
            w = TWeights.Second(weights + toSecond);
            s10 = Vector512.FusedMultiplyAdd(w, v0, s10);
            s11 = Vector512.FusedMultiplyAdd(w, v1, s11);
            s12 = Vector512.FusedMultiplyAdd(w, v2, s12);
            w = TWeights.First(weights + toPair);
            s20 = Vector512.FusedMultiplyAdd(w, v0, s20);
            s21 = Vector512.FusedMultiplyAdd(w, v1, s21);
            s22 = Vector512.FusedMultiplyAdd(w, v2, s22);
            w = TWeights.Second(weights + toPair + toSecond);
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
    private void Wide4<TWeights>(byte* weights, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        float* x1 = x + NumIn, x2 = x1 + NumIn, x3 = x2 + NumIn;
        var toSecond = TWeights.ToSecond(StreamBytes);
        var toPair = TWeights.ToPair(StreamBytes);
        Vector512<float> s00 = default, s01 = default, s02 = default, s03 = default;
        Vector512<float> s10 = default, s11 = default, s12 = default, s13 = default;
        Vector512<float> s20 = default, s21 = default, s22 = default, s23 = default;
        Vector512<float> s30 = default, s31 = default, s32 = default, s33 = default;
        for (var i = 0; i < NumIn; i++, weights += RowBytes)
        {
            var v0 = Vector512.Create(x[i]);
            var v1 = Vector512.Create(x1[i]);
            var v2 = Vector512.Create(x2[i]);
            var v3 = Vector512.Create(x3[i]);
            var w = TWeights.First(weights);
            s00 = Vector512.FusedMultiplyAdd(w, v0, s00);
            s01 = Vector512.FusedMultiplyAdd(w, v1, s01);
            s02 = Vector512.FusedMultiplyAdd(w, v2, s02);
            s03 = Vector512.FusedMultiplyAdd(w, v3, s03);
            w = TWeights.Second(weights + toSecond);
            s10 = Vector512.FusedMultiplyAdd(w, v0, s10);
            s11 = Vector512.FusedMultiplyAdd(w, v1, s11);
            s12 = Vector512.FusedMultiplyAdd(w, v2, s12);
            s13 = Vector512.FusedMultiplyAdd(w, v3, s13);
            w = TWeights.First(weights + toPair);
            s20 = Vector512.FusedMultiplyAdd(w, v0, s20);
            s21 = Vector512.FusedMultiplyAdd(w, v1, s21);
            s22 = Vector512.FusedMultiplyAdd(w, v2, s22);
            s23 = Vector512.FusedMultiplyAdd(w, v3, s23);
            w = TWeights.Second(weights + toPair + toSecond);
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
    private void Wide5<TWeights>(byte* weights, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        float* x1 = x + NumIn, x2 = x1 + NumIn, x3 = x2 + NumIn, x4 = x3 + NumIn;
        var toSecond = TWeights.ToSecond(StreamBytes);
        var toPair = TWeights.ToPair(StreamBytes);
        Vector512<float> s00 = default, s01 = default, s02 = default, s03 = default, s04 = default;
        Vector512<float> s10 = default, s11 = default, s12 = default, s13 = default, s14 = default;
        Vector512<float> s20 = default, s21 = default, s22 = default, s23 = default, s24 = default;
        Vector512<float> s30 = default, s31 = default, s32 = default, s33 = default, s34 = default;
        for (var i = 0; i < NumIn; i++, weights += RowBytes)
        {
            var v0 = Vector512.Create(x[i]);
            var v1 = Vector512.Create(x1[i]);
            var v2 = Vector512.Create(x2[i]);
            var v3 = Vector512.Create(x3[i]);
            var v4 = Vector512.Create(x4[i]);
            var w = TWeights.First(weights);
            s00 = Vector512.FusedMultiplyAdd(w, v0, s00);
            s01 = Vector512.FusedMultiplyAdd(w, v1, s01);
            s02 = Vector512.FusedMultiplyAdd(w, v2, s02);
            s03 = Vector512.FusedMultiplyAdd(w, v3, s03);
            s04 = Vector512.FusedMultiplyAdd(w, v4, s04);
            w = TWeights.Second(weights + toSecond);
            s10 = Vector512.FusedMultiplyAdd(w, v0, s10);
            s11 = Vector512.FusedMultiplyAdd(w, v1, s11);
            s12 = Vector512.FusedMultiplyAdd(w, v2, s12);
            s13 = Vector512.FusedMultiplyAdd(w, v3, s13);
            s14 = Vector512.FusedMultiplyAdd(w, v4, s14);
            w = TWeights.First(weights + toPair);
            s20 = Vector512.FusedMultiplyAdd(w, v0, s20);
            s21 = Vector512.FusedMultiplyAdd(w, v1, s21);
            s22 = Vector512.FusedMultiplyAdd(w, v2, s22);
            s23 = Vector512.FusedMultiplyAdd(w, v3, s23);
            s24 = Vector512.FusedMultiplyAdd(w, v4, s24);
            w = TWeights.Second(weights + toPair + toSecond);
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

    // The same where a register holds 8 outputs and there are 16 of them: a block by halves or quarters. An output is the same chain of the
    // same operations.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Narrow1<TWeights>(byte* weights, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        byte* at1 = weights + TWeights.Quarter(1, StreamBytes), at2 = weights + TWeights.Quarter(2, StreamBytes), at3 = weights + TWeights.Quarter(3, StreamBytes);
        Vector256<float> l0 = default, h0 = default;
        Vector256<float> l1 = default, h1 = default;
        Vector256<float> l2 = default, h2 = default;
        Vector256<float> l3 = default, h3 = default;
        for (long i = 0, row = 0; i < NumIn; i++, row += RowBytes)
        {
            var v = Vector256.Create(x[i]);
            l0 = Vector256.FusedMultiplyAdd(TWeights.Low(weights + row), v, l0);
            h0 = Vector256.FusedMultiplyAdd(TWeights.High(weights + row), v, h0);
            l1 = Vector256.FusedMultiplyAdd(TWeights.Low(at1 + row), v, l1);
            h1 = Vector256.FusedMultiplyAdd(TWeights.High(at1 + row), v, h1);
            l2 = Vector256.FusedMultiplyAdd(TWeights.Low(at2 + row), v, l2);
            h2 = Vector256.FusedMultiplyAdd(TWeights.High(at2 + row), v, h2);
            l3 = Vector256.FusedMultiplyAdd(TWeights.Low(at3 + row), v, l3);
            h3 = Vector256.FusedMultiplyAdd(TWeights.High(at3 + row), v, h3);
        }

        TWeights.Store(sums, 0, l0, h0);
        TWeights.Store(sums, 1, l1, h1);
        TWeights.Store(sums, 2, l2, h2);
        TWeights.Store(sums, 3, l3, h3);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Narrow2<TWeights>(byte* weights, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        float* x1 = x + NumIn;
        for (var quarter = 0; quarter < 4; quarter += 2)
        {
            var at = weights + TWeights.Quarter(quarter, StreamBytes);
            var next = TWeights.Quarter(1, StreamBytes);
            Vector256<float> l00 = default, h00 = default, l01 = default, h01 = default;
            Vector256<float> l10 = default, h10 = default, l11 = default, h11 = default;
            for (var i = 0; i < NumIn; i++, at += RowBytes)
            {
                Prefetch(at);
                var low = TWeights.Low(at);
                var high = TWeights.High(at);
                var v = Vector256.Create(x[i]);
                l00 = Vector256.FusedMultiplyAdd(low, v, l00);
                h00 = Vector256.FusedMultiplyAdd(high, v, h00);
                v = Vector256.Create(x1[i]);
                l01 = Vector256.FusedMultiplyAdd(low, v, l01);
                h01 = Vector256.FusedMultiplyAdd(high, v, h01);
                low = TWeights.Low(at + next);
                high = TWeights.High(at + next);
                v = Vector256.Create(x[i]);
                l10 = Vector256.FusedMultiplyAdd(low, v, l10);
                h10 = Vector256.FusedMultiplyAdd(high, v, h10);
                v = Vector256.Create(x1[i]);
                l11 = Vector256.FusedMultiplyAdd(low, v, l11);
                h11 = Vector256.FusedMultiplyAdd(high, v, h11);
            }

            TWeights.Store(sums, quarter, l00, h00);
            TWeights.Store(sums, quarter + 1, l10, h10);
            TWeights.Store(sums + 64, quarter, l01, h01);
            TWeights.Store(sums + 64, quarter + 1, l11, h11);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Narrow3<TWeights>(byte* weights, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        float* x1 = x + NumIn, x2 = x1 + NumIn;
        for (var quarter = 0; quarter < 4; quarter += 2)
        {
            var at = weights + TWeights.Quarter(quarter, StreamBytes);
            var next = TWeights.Quarter(1, StreamBytes);
            Vector256<float> l00 = default, h00 = default, l01 = default, h01 = default, l02 = default, h02 = default;
            Vector256<float> l10 = default, h10 = default, l11 = default, h11 = default, l12 = default, h12 = default;
            for (var i = 0; i < NumIn; i++, at += RowBytes)
            {
                Prefetch(at);
                var v0 = Vector256.Create(x[i]);
                var v1 = Vector256.Create(x1[i]);
                var v2 = Vector256.Create(x2[i]);
                var w = TWeights.Low(at);
                l00 = Vector256.FusedMultiplyAdd(w, v0, l00);
                l01 = Vector256.FusedMultiplyAdd(w, v1, l01);
                l02 = Vector256.FusedMultiplyAdd(w, v2, l02);
                w = TWeights.High(at);
                h00 = Vector256.FusedMultiplyAdd(w, v0, h00);
                h01 = Vector256.FusedMultiplyAdd(w, v1, h01);
                h02 = Vector256.FusedMultiplyAdd(w, v2, h02);
                w = TWeights.Low(at + next);
                l10 = Vector256.FusedMultiplyAdd(w, v0, l10);
                l11 = Vector256.FusedMultiplyAdd(w, v1, l11);
                l12 = Vector256.FusedMultiplyAdd(w, v2, l12);
                w = TWeights.High(at + next);
                h10 = Vector256.FusedMultiplyAdd(w, v0, h10);
                h11 = Vector256.FusedMultiplyAdd(w, v1, h11);
                h12 = Vector256.FusedMultiplyAdd(w, v2, h12);
            }

            TWeights.Store(sums, quarter, l00, h00);
            TWeights.Store(sums, quarter + 1, l10, h10);
            TWeights.Store(sums + 64, quarter, l01, h01);
            TWeights.Store(sums + 64, quarter + 1, l11, h11);
            TWeights.Store(sums + 128, quarter, l02, h02);
            TWeights.Store(sums + 128, quarter + 1, l12, h12);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Narrow4<TWeights>(byte* weights, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        float* x1 = x + NumIn, x2 = x1 + NumIn, x3 = x2 + NumIn;
        for (var quarter = 0; quarter < 4; quarter++)
        {
            var at = weights + TWeights.Quarter(quarter, StreamBytes);
            Vector256<float> l0 = default, h0 = default;
            Vector256<float> l1 = default, h1 = default;
            Vector256<float> l2 = default, h2 = default;
            Vector256<float> l3 = default, h3 = default;
            for (var i = 0; i < NumIn; i++, at += RowBytes)
            {
                Prefetch(at);
                var low = TWeights.Low(at);
                var high = TWeights.High(at);
                var v = Vector256.Create(x[i]);
                l0 = Vector256.FusedMultiplyAdd(low, v, l0);
                h0 = Vector256.FusedMultiplyAdd(high, v, h0);
                v = Vector256.Create(x1[i]);
                l1 = Vector256.FusedMultiplyAdd(low, v, l1);
                h1 = Vector256.FusedMultiplyAdd(high, v, h1);
                v = Vector256.Create(x2[i]);
                l2 = Vector256.FusedMultiplyAdd(low, v, l2);
                h2 = Vector256.FusedMultiplyAdd(high, v, h2);
                v = Vector256.Create(x3[i]);
                l3 = Vector256.FusedMultiplyAdd(low, v, l3);
                h3 = Vector256.FusedMultiplyAdd(high, v, h3);
            }

            TWeights.Store(sums, quarter, l0, h0);
            TWeights.Store(sums + 64, quarter, l1, h1);
            TWeights.Store(sums + 128, quarter, l2, h2);
            TWeights.Store(sums + 192, quarter, l3, h3);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Narrow5<TWeights>(byte* weights, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        float* x1 = x + NumIn, x2 = x1 + NumIn, x3 = x2 + NumIn, x4 = x3 + NumIn;
        for (var quarter = 0; quarter < 4; quarter++)
        {
            var at = weights + TWeights.Quarter(quarter, StreamBytes);
            Vector256<float> l0 = default, h0 = default;
            Vector256<float> l1 = default, h1 = default;
            Vector256<float> l2 = default, h2 = default;
            Vector256<float> l3 = default, h3 = default;
            Vector256<float> l4 = default, h4 = default;
            for (var i = 0; i < NumIn; i++, at += RowBytes)
            {
                Prefetch(at);
                var low = TWeights.Low(at);
                var high = TWeights.High(at);
                var v = Vector256.Create(x[i]);
                l0 = Vector256.FusedMultiplyAdd(low, v, l0);
                h0 = Vector256.FusedMultiplyAdd(high, v, h0);
                v = Vector256.Create(x1[i]);
                l1 = Vector256.FusedMultiplyAdd(low, v, l1);
                h1 = Vector256.FusedMultiplyAdd(high, v, h1);
                v = Vector256.Create(x2[i]);
                l2 = Vector256.FusedMultiplyAdd(low, v, l2);
                h2 = Vector256.FusedMultiplyAdd(high, v, h2);
                v = Vector256.Create(x3[i]);
                l3 = Vector256.FusedMultiplyAdd(low, v, l3);
                h3 = Vector256.FusedMultiplyAdd(high, v, h3);
                v = Vector256.Create(x4[i]);
                l4 = Vector256.FusedMultiplyAdd(low, v, l4);
                h4 = Vector256.FusedMultiplyAdd(high, v, h4);
            }

            TWeights.Store(sums, quarter, l0, h0);
            TWeights.Store(sums + 64, quarter, l1, h1);
            TWeights.Store(sums + 128, quarter, l2, h2);
            TWeights.Store(sums + 192, quarter, l3, h3);
            TWeights.Store(sums + 256, quarter, l4, h4);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Narrow6<TWeights>(byte* weights, float* x, float* sums)
        where TWeights : struct, IWeights
    {
        float* x1 = x + NumIn, x2 = x1 + NumIn, x3 = x2 + NumIn, x4 = x3 + NumIn, x5 = x4 + NumIn;
        for (var quarter = 0; quarter < 4; quarter++)
        {
            var at = weights + TWeights.Quarter(quarter, StreamBytes);
            Vector256<float> l0 = default, h0 = default;
            Vector256<float> l1 = default, h1 = default;
            Vector256<float> l2 = default, h2 = default;
            Vector256<float> l3 = default, h3 = default;
            Vector256<float> l4 = default, h4 = default;
            Vector256<float> l5 = default, h5 = default;
            for (var i = 0; i < NumIn; i++, at += RowBytes)
            {
                Prefetch(at);
                var low = TWeights.Low(at);
                var high = TWeights.High(at);
                var v = Vector256.Create(x[i]);
                l0 = Vector256.FusedMultiplyAdd(low, v, l0);
                h0 = Vector256.FusedMultiplyAdd(high, v, h0);
                v = Vector256.Create(x1[i]);
                l1 = Vector256.FusedMultiplyAdd(low, v, l1);
                h1 = Vector256.FusedMultiplyAdd(high, v, h1);
                v = Vector256.Create(x2[i]);
                l2 = Vector256.FusedMultiplyAdd(low, v, l2);
                h2 = Vector256.FusedMultiplyAdd(high, v, h2);
                v = Vector256.Create(x3[i]);
                l3 = Vector256.FusedMultiplyAdd(low, v, l3);
                h3 = Vector256.FusedMultiplyAdd(high, v, h3);
                v = Vector256.Create(x4[i]);
                l4 = Vector256.FusedMultiplyAdd(low, v, l4);
                h4 = Vector256.FusedMultiplyAdd(high, v, h4);
                v = Vector256.Create(x5[i]);
                l5 = Vector256.FusedMultiplyAdd(low, v, l5);
                h5 = Vector256.FusedMultiplyAdd(high, v, h5);
            }

            TWeights.Store(sums, quarter, l0, h0);
            TWeights.Store(sums + 64, quarter, l1, h1);
            TWeights.Store(sums + 128, quarter, l2, h2);
            TWeights.Store(sums + 192, quarter, l3, h3);
            TWeights.Store(sums + 256, quarter, l4, h4);
            TWeights.Store(sums + 320, quarter, l5, h5);
        }
    }

    /// <summary>Asks for the row that is due in some tens of cycles: with several tokens a row the machine's own prefetching falls behind.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(byte* row)
    {
        if (Sse.IsSupported)
        {
            Sse.Prefetch0(row + (16 * RowBytes));
        }
    }

    /// <summary>Byte of an output's weight for input 0: of 32 bfloat16, output o and o + 16 share a 32-bit lane.</summary>
    private long Position(int output)
    {
        var (block, inBlock) = (output / BlockSize, output % BlockSize);
        if (!_isBFloat16)
        {
            return (((4L * block) + (inBlock / 16)) * StreamBytes) + (inBlock % 16 * sizeof(float));
        }

        var pair = inBlock % 32;
        return (((2L * block) + (inBlock / 32)) * StreamBytes) + ((pair < 16 ? 2 * pair : (2 * (pair - 16)) + 1) * sizeof(ushort));
    }

    private readonly struct BFloat16 : IWeights
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> First(byte* row) => (Vector512.Load((uint*)row) << 16).AsSingle();

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Second(byte* row) => (Vector512.Load((uint*)row) & Vector512.Create(0xffff0000u)).AsSingle();

        public static long ToSecond(long streamBytes) => 0;

        public static long ToPair(long streamBytes) => streamBytes;

        public static long Quarter(int quarter, long streamBytes) => (quarter / 2 * streamBytes) + (quarter % 2 * (RowBytes / 2));

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<float> Low(byte* row) => (Vector256.Load((uint*)row) << 16).AsSingle();

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<float> High(byte* row) => (Vector256.Load((uint*)row) & Vector256.Create(0xffff0000u)).AsSingle();

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Store(float* sums, int quarter, Vector256<float> low, Vector256<float> high)
        {
            sums += (32 * (quarter / 2)) + (8 * (quarter % 2));
            low.Store(sums);
            high.Store(sums + 16);
        }
    }

    private readonly struct Float32 : IWeights
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> First(byte* row) => Vector512.Load((float*)row);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Second(byte* row) => Vector512.Load((float*)row);

        public static long ToSecond(long streamBytes) => streamBytes;

        public static long ToPair(long streamBytes) => 2 * streamBytes;

        public static long Quarter(int quarter, long streamBytes) => quarter * streamBytes;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<float> Low(byte* row) => Vector256.Load((float*)row);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector256<float> High(byte* row) => Vector256.Load((float*)row + 8);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Store(float* sums, int quarter, Vector256<float> low, Vector256<float> high)
        {
            low.Store(sums + (16 * quarter));
            high.Store(sums + (16 * quarter) + 8);
        }
    }
}
