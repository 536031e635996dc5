using System.Runtime.InteropServices;
using System.Text;
using TorchSharp;

namespace FastDraft.Modeling.Native;

// Shapes: N rows (batch x positions), D hidden, F intermediate, V vocabulary, T positions of a sequence, H heads, S head size.

/// <summary>
/// What training on a card does element by element, one pass over memory each, in bfloat16 with float32 inside. Compiled when first used by
/// NVRTC, which every CUDA libtorch brings along; launched on the default stream, where TorchSharp's own operations run.
/// </summary>
internal sealed unsafe class CudaKernels
{
    /// <summary>A thread moves 16 bytes at a time.</summary>
    public const int Width = 8;

    private const int RowsOfBlock = 8;
    private const int BlocksOfNormBackward = 264;

    private const string Source = """
        typedef unsigned short bf16;
        typedef unsigned int u32;
        #define VECTORS ((HIDDEN / 8 + 31) / 32)
        #define EACH _Pragma("unroll") for (int k = 0; k < 8; k++)

        __device__ __forceinline__ u32 pack(float low, float high)
        {
            u32 both;
            asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
            return both;
        }

        __device__ __forceinline__ void load(const bf16* from, float* x)
        {
            const uint4 v = *(const uint4*)from;
            const u32 words[4] = { v.x, v.y, v.z, v.w };
            #pragma unroll
            for (int k = 0; k < 4; k++) { x[2 * k] = __uint_as_float(words[k] << 16); x[2 * k + 1] = __uint_as_float(words[k] & 0xffff0000u); }
        }

        __device__ __forceinline__ void store(bf16* to, const float* x)
        {
            *(uint4*)to = make_uint4(pack(x[0], x[1]), pack(x[2], x[3]), pack(x[4], x[5]), pack(x[6], x[7]));
        }

        __device__ __forceinline__ float of_warp(float x)
        {
            #pragma unroll
            for (int apart = 16; apart > 0; apart /= 2) x += __shfl_xor_sync(0xffffffffu, x, apart);
            return x;
        }

        // Joins two (maximum, sum of exponentials above it).
        __device__ __forceinline__ void join(float& most, float& sum, float most2, float sum2)
        {
            const float next = fmaxf(most, most2);
            sum = (most == next ? sum : sum * __expf(most - next)) + (most2 == next ? sum2 : sum2 * __expf(most2 - next));
            most = next;
        }

        // One block a row of logits, which become scale times (softmax - label). The second reading of a row finds it in the L2 cache.
        extern "C" __global__ void __launch_bounds__(1024, 1) slope(bf16* logits, const long long* labels, float* loss, float scale, int vocabulary)
        {
            __shared__ float maxima[32], sums[32], of_label;
            bf16* row = logits + (long long)blockIdx.x * vocabulary;
            const long long label = labels[blockIdx.x];
            float x[8];
            if (label < 0)
            {
                EACH x[k] = 0;
                for (int i = threadIdx.x * 8; i < vocabulary; i += blockDim.x * 8) store(row + i, x);
                if (threadIdx.x == 0) loss[blockIdx.x] = 0;
                return;
            }
            if (threadIdx.x == 0) of_label = __uint_as_float((u32)row[label] << 16);
            float most = __int_as_float(0xff800000), sum = 0;
            #pragma unroll 4
            for (int i = threadIdx.x * 8; i < vocabulary; i += blockDim.x * 8)
            {
                load(row + i, x);
                float next = most;
                EACH next = fmaxf(next, x[k]);
                sum = most == next ? sum : sum * __expf(most - next);
                EACH sum += __expf(x[k] - next);
                most = next;
            }
            #pragma unroll
            for (int apart = 16; apart > 0; apart /= 2)
                join(most, sum, __shfl_xor_sync(0xffffffffu, most, apart), __shfl_xor_sync(0xffffffffu, sum, apart));
            if (threadIdx.x % 32 == 0) { maxima[threadIdx.x / 32] = most; sums[threadIdx.x / 32] = sum; }
            __syncthreads();
            most = maxima[0];
            sum = sums[0];
            for (int w = 1; w < blockDim.x / 32; w++) join(most, sum, maxima[w], sums[w]);
            const float log_sum = most + logf(sum);
            #pragma unroll 4
            for (int i = threadIdx.x * 8; i < vocabulary; i += blockDim.x * 8)
            {
                load(row + i, x);
                EACH x[k] = __expf(x[k] - log_sum) * scale;
                if (label - i >= 0 && label - i < 8)
                {
                    // p - 1 would lose its bits near certainty.
                    EACH if (label - i == k) x[k] = expm1f(of_label - log_sum) * scale;
                }
                store(row + i, x);
            }
            if (threadIdx.x == 0)
            {
                const float nats = log_sum - of_label;
                loss[blockIdx.x] = (nats > 87.3365f ? 87.3365f : nats) * scale;
            }
        }

        // Half-split, x [B, T, H, S]; sign -1 turns back.
        extern "C" __global__ void rotate(const bf16* x, bf16* to, const float* cos, const float* sin, int length, int heads, int size, float sign, int count)
        {
            const int at = blockIdx.x * blockDim.x + threadIdx.x;
            if (at >= count) return;
            const int parts = size / 16, part = at % parts, head = at / parts, position = head / heads % length;
            const long long first = (long long)head * size + part * 8, second = first + size / 2;
            float a[8], b[8], c[8], d[8];
            load(x + first, a);
            load(x + second, b);
            EACH
            {
                const float cosine = cos[(long long)position * size + part * 8 + k], sine = sign * sin[(long long)position * size + part * 8 + k];
                c[k] = a[k] * cosine - b[k] * sine;
                d[k] = b[k] * cosine + a[k] * sine;
            }
            store(to + first, c);
            store(to + second, d);
        }

        extern "C" __global__ void gate(const bf16* gates, const bf16* ups, bf16* to, int count)
        {
            const long long at = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * 8;
            if (at >= (long long)count * 8) return;
            float g[8], u[8];
            load(gates + at, g);
            load(ups + at, u);
            EACH g[k] = g[k] / (1 + __expf(-g[k])) * u[k];
            store(to + at, g);
        }

        // In place: gates and ups become their gradients.
        extern "C" __global__ void gate_backward(const bf16* gradient, bf16* gates, bf16* ups, int count)
        {
            const long long at = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * 8;
            if (at >= (long long)count * 8) return;
            float d[8], g[8], u[8];
            load(gradient + at, d);
            load(gates + at, g);
            load(ups + at, u);
            EACH
            {
                const float s = 1 / (1 + __expf(-g[k]));
                const float up = u[k];
                u[k] = d[k] * g[k] * s;
                g[k] = d[k] * up * s * (1 + g[k] * (1 - s));
            }
            store(gates + at, g);
            store(ups + at, u);
        }

        // One warp a row: sum = x + delta, normed = sum / rms(sum) * weight. Without a delta, sum is x and not written.
        extern "C" __global__ void rms_norm(const bf16* x, const bf16* delta, const bf16* weight, bf16* sum, bf16* normed, float* scales, float epsilon, int rows)
        {
            const int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
            if (row >= rows) return;
            const long long start = (long long)row * HIDDEN;
            float values[VECTORS][8], squares = 0;
            #pragma unroll
            for (int v = 0; v < VECTORS; v++)
            {
                const int at = (v * 32 + lane) * 8;
                if (at >= HIDDEN) continue;
                load(x + start + at, values[v]);
                if (delta)
                {
                    float d[8];
                    load(delta + start + at, d);
                    EACH d[k] += values[v][k];
                    store(sum + start + at, d);
                    // As it is stored, so that the norm is of what is read again.
                    EACH { const u32 w = pack(d[k], 0); values[v][k] = __uint_as_float(w << 16); }
                }
                EACH squares += values[v][k] * values[v][k];
            }
            const float scale = rsqrtf(of_warp(squares) / HIDDEN + epsilon);
            if (lane == 0) scales[row] = scale;
            #pragma unroll
            for (int v = 0; v < VECTORS; v++)
            {
                const int at = (v * 32 + lane) * 8;
                if (at >= HIDDEN) continue;
                float w[8];
                load(weight + at, w);
                EACH w[k] *= values[v][k] * scale;
                store(normed + start + at, w);
            }
        }

        // to = gradient of the norm's input, plus residual where given; partial [warps, HIDDEN] sums to the weight's gradient.
        extern "C" __global__ void rms_norm_backward(const bf16* gradient, const bf16* x, const float* scales, const bf16* weight, const bf16* residual, bf16* to, float* partial, int rows)
        {
            const int warps = gridDim.x * (blockDim.x / 32), warp = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
            float sums[VECTORS][8];
            #pragma unroll
            for (int v = 0; v < VECTORS; v++) EACH sums[v][k] = 0;
            for (int row = warp; row < rows; row += warps)
            {
                const long long start = (long long)row * HIDDEN;
                const float scale = scales[row];
                float weighted[VECTORS][8], normed[VECTORS][8], product = 0;
                #pragma unroll
                for (int v = 0; v < VECTORS; v++)
                {
                    const int at = (v * 32 + lane) * 8;
                    if (at >= HIDDEN) continue;
                    float w[8];
                    load(gradient + start + at, weighted[v]);
                    load(x + start + at, normed[v]);
                    load(weight + at, w);
                    EACH
                    {
                        normed[v][k] *= scale;
                        sums[v][k] += weighted[v][k] * normed[v][k];
                        weighted[v][k] *= w[k];
                        product += weighted[v][k] * normed[v][k];
                    }
                }
                product = of_warp(product) / HIDDEN;
                #pragma unroll
                for (int v = 0; v < VECTORS; v++)
                {
                    const int at = (v * 32 + lane) * 8;
                    if (at >= HIDDEN) continue;
                    float d[8];
                    EACH d[k] = 0;
                    if (residual) load(residual + start + at, d);
                    EACH d[k] += scale * (weighted[v][k] - normed[v][k] * product);
                    store(to + start + at, d);
                }
            }
            #pragma unroll
            for (int v = 0; v < VECTORS; v++)
            {
                const int at = (v * 32 + lane) * 8;
                if (at >= HIDDEN) continue;
                EACH partial[(long long)warp * HIDDEN + at + k] = sums[v][k];
            }
        }

        """;

    private static readonly Lock Gate = new();
    private static readonly Dictionary<int, CudaKernels?> OfSizes = [];

    private readonly CudaDriver _driver;
    private readonly nint _slope, _rotate, _gate, _gateBackward, _norm, _normBackward;

    private CudaKernels(CudaDriver driver, int hidden)
    {
        _driver = driver;
        var module = driver.Load(Nvrtc.Compile(Source, $"--gpu-architecture=sm_{driver.Capability}", $"-DHIDDEN={hidden}"));
        _slope = driver.Function(module, "slope");
        _rotate = driver.Function(module, "rotate");
        _gate = driver.Function(module, "gate");
        _gateBackward = driver.Function(module, "gate_backward");
        _norm = driver.Function(module, "rms_norm");
        _normBackward = driver.Function(module, "rms_norm_backward");
    }

    /// <summary>Why there are none, where <see cref="For"/> returned null; for logs.</summary>
    public static string? WhyNot { get; private set; }

    /// <summary>Kernels for a hidden size, or null where this installation cannot compile them: then the same is done in single operations.</summary>
    public static CudaKernels? For(int hidden)
    {
        lock (Gate)
        {
            if (!OfSizes.TryGetValue(hidden, out var kernels))
            {
                try
                {
                    kernels = hidden % Width == 0 ? new CudaKernels(CudaDriver.Instance, hidden) : null;
                }
                catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException or InvalidOperationException)
                {
                    WhyNot = e.Message;
                }

                OfSizes.Add(hidden, kernels);
            }

            return kernels;
        }
    }

    /// <summary>Logits [C, V] become <paramref name="scale"/> (softmax - one-hot), zeros where a label is below 0; returns the rows' losses times scale, [C] float32.</summary>
    public torch.Tensor Slope(torch.Tensor logits_CV, torch.Tensor labels_C, double scale)
    {
        var loss_C = torch.empty(logits_CV.shape[0], torch.ScalarType.Float32, logits_CV.device);
        Launch(_slope, logits_CV.shape[0], 1024, logits_CV, labels_C, loss_C, (float)scale, (int)logits_CV.shape[1]);
        return loss_C;
    }

    /// <summary>Turns x [B, T, H, S] in place by cos and sin [positions, S] float32, or back; S is a multiple of 16.</summary>
    public void Rotate(torch.Tensor x_BTHS, torch.Tensor cos, torch.Tensor sin, bool back)
    {
        var (length, heads, size) = ((int)x_BTHS.shape[1], (int)x_BTHS.shape[2], (int)x_BTHS.shape[3]);
        var count = (int)(x_BTHS.numel() / (2 * Width));
        Launch(_rotate, (count + 255) / 256, 256, x_BTHS, x_BTHS, cos, sin, length, heads, size, back ? -1f : 1f, count);
    }

    /// <summary>silu(gate) * up, both [N, F].</summary>
    public torch.Tensor GateUp(torch.Tensor gate, torch.Tensor up)
    {
        var result = torch.empty_like(gate);
        var count = (int)(gate.numel() / Width);
        Launch(_gate, (count + 255) / 256, 256, gate, up, result, count);
        return result;
    }

    /// <summary>Replaces gate and up by their gradients.</summary>
    public void GateUpBackward(torch.Tensor gradient, torch.Tensor gate, torch.Tensor up)
    {
        var count = (int)(gate.numel() / Width);
        Launch(_gateBackward, (count + 255) / 256, 256, gradient, gate, up, count);
    }

    /// <summary>(x + delta, its norm times weight, one over its root mean square [N] float32); x itself where there is no delta.</summary>
    public (torch.Tensor Sum, torch.Tensor Normed, torch.Tensor Scales) Norm(torch.Tensor x_ND, torch.Tensor? delta_ND, torch.Tensor weight_D, double epsilon)
    {
        var rows = (int)x_ND.shape[0];
        var sum = delta_ND is null ? x_ND : torch.empty_like(x_ND);
        var normed = torch.empty_like(x_ND);
        var scales = torch.empty(rows, torch.ScalarType.Float32, x_ND.device);
        Launch(_norm, (rows + RowsOfBlock - 1) / RowsOfBlock, 32 * RowsOfBlock, x_ND, delta_ND, weight_D, sum, normed, scales, (float)epsilon, rows);
        return (sum, normed, scales);
    }

    /// <summary>(d loss / d x plus <paramref name="residual_ND"/>, d loss / d weight) of a norm whose input was x.</summary>
    public (torch.Tensor Input, torch.Tensor Weight) NormBackward(torch.Tensor gradient_ND, torch.Tensor x_ND, torch.Tensor scales, torch.Tensor weight_D, torch.Tensor? residual_ND)
    {
        var rows = (int)x_ND.shape[0];
        var input = torch.empty_like(x_ND);
        using var partial = torch.empty([BlocksOfNormBackward * RowsOfBlock, x_ND.shape[1]], torch.ScalarType.Float32, x_ND.device);
        Launch(_normBackward, BlocksOfNormBackward, 32 * RowsOfBlock, gradient_ND, x_ND, scales, weight_D, residual_ND, input, partial, rows);
        return (input, partial.sum([0]).to(weight_D.dtype));
    }

    private void Launch(nint function, long blocks, int threads, params ReadOnlySpan<Argument> arguments)
    {
        var values = stackalloc ulong[arguments.Length];
        var addresses = stackalloc void*[arguments.Length];
        for (var i = 0; i < arguments.Length; i++)
        {
            values[i] = arguments[i].Bits;
            addresses[i] = values + i;
        }

        _driver.Launch(function, (uint)blocks, (uint)threads, addresses);
    }

    /// <summary>A kernel's argument, in the low bytes of eight.</summary>
    private readonly struct Argument(ulong bits)
    {
        public ulong Bits { get; } = bits;

        public static implicit operator Argument(torch.Tensor? tensor) => new(tensor is null ? 0 : (ulong)Libtorch.Address(tensor));

        public static implicit operator Argument(int value) => new((uint)value);

        public static implicit operator Argument(float value) => new(BitConverter.SingleToUInt32Bits(value));
    }
}

/// <summary>The part of the CUDA driver that kernels and waiting need; everything happens in the context that libtorch made current.</summary>
internal sealed unsafe class CudaDriver
{
    private const int ComputeCapabilityMajor = 75, ComputeCapabilityMinor = 76;

    /// <summary>No time stamps, and a waiting thread sleeps.</summary>
    private const uint EventFlags = 1 | 2;

    private readonly nint _library = NativeLibrary.Load("libcuda.so.1");
    private readonly delegate* unmanaged<nint, uint, uint, uint, uint, uint, uint, uint, nint, void**, void**, int> _launch;
    private readonly delegate* unmanaged<nint, nint, int> _record;
    private readonly delegate* unmanaged<nint, int> _synchronize;

    private CudaDriver()
    {
        _launch = (delegate* unmanaged<nint, uint, uint, uint, uint, uint, uint, uint, nint, void**, void**, int>)NativeLibrary.GetExport(_library, "cuLaunchKernel");
        _record = (delegate* unmanaged<nint, nint, int>)NativeLibrary.GetExport(_library, "cuEventRecord");
        _synchronize = (delegate* unmanaged<nint, int>)NativeLibrary.GetExport(_library, "cuEventSynchronize");
        int device, major, minor;
        Check(((delegate* unmanaged<int*, int>)NativeLibrary.GetExport(_library, "cuCtxGetDevice"))(&device), "cuCtxGetDevice");
        var attribute = (delegate* unmanaged<int*, int, int, int>)NativeLibrary.GetExport(_library, "cuDeviceGetAttribute");
        Check(attribute(&major, ComputeCapabilityMajor, device), "cuDeviceGetAttribute");
        Check(attribute(&minor, ComputeCapabilityMinor, device), "cuDeviceGetAttribute");
        Capability = (10 * major) + minor;
    }

    private static readonly Lazy<CudaDriver> Lazy = new(() => new CudaDriver());

    /// <exception cref="DllNotFoundException">There is no driver.</exception>
    public static CudaDriver Instance => Lazy.Value;

    /// <summary>90 for compute capability 9.0.</summary>
    public int Capability { get; }

    public nint Load(byte[] image)
    {
        nint module;
        fixed (byte* bytes = image)
        {
            Check(((delegate* unmanaged<nint*, void*, int>)NativeLibrary.GetExport(_library, "cuModuleLoadData"))(&module, bytes), "cuModuleLoadData");
        }

        return module;
    }

    public nint Function(nint module, string name)
    {
        nint function;
        fixed (byte* text = Encoding.ASCII.GetBytes(name + '\0'))
        {
            Check(((delegate* unmanaged<nint*, nint, byte*, int>)NativeLibrary.GetExport(_library, "cuModuleGetFunction"))(&function, module, text), name);
        }

        return function;
    }

    public void Launch(nint function, uint blocks, uint threads, void** arguments) => Check(_launch(function, blocks, 1, 1, threads, 1, 1, 0, 0, arguments, null), "cuLaunchKernel");

    public nint NewEvent()
    {
        nint handle;
        Check(((delegate* unmanaged<nint*, uint, int>)NativeLibrary.GetExport(_library, "cuEventCreate"))(&handle, EventFlags), "cuEventCreate");
        return handle;
    }

    /// <summary>The event comes when all that is queued by now is done.</summary>
    public void Record(nint handle) => Check(_record(handle, 0), "cuEventRecord");

    public void Wait(nint handle) => Check(_synchronize(handle), "cuEventSynchronize");

    public void Destroy(nint handle) => Check(((delegate* unmanaged<nint, int>)NativeLibrary.GetExport(_library, "cuEventDestroy_v2"))(handle), "cuEventDestroy");

    private static void Check(int result, string what)
    {
        if (result != 0)
        {
            throw new InvalidOperationException($"{what} failed with CUDA error {result}.");
        }
    }
}

/// <summary>CUDA's run-time compiler.</summary>
internal static unsafe class Nvrtc
{
    private static readonly string[] Names = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so"];

    /// <summary>Source to machine code.</summary>
    /// <exception cref="DllNotFoundException">There is no compiler.</exception>
    /// <exception cref="InvalidOperationException">The source does not compile for this card; the message says why.</exception>
    public static byte[] Compile(string source, params string[] options)
    {
        var library = Names.Select(n => NativeLibrary.TryLoad(n, out var handle) ? handle : 0).FirstOrDefault(h => h != 0);
        if (library == 0)
        {
            throw new DllNotFoundException($"None of {string.Join(", ", Names)} is there.");
        }

        nint program;
        fixed (byte* text = Encoding.ASCII.GetBytes(source + '\0'))
        {
            Check(((delegate* unmanaged<nint*, byte*, byte*, int, byte**, byte**, int>)NativeLibrary.GetExport(library, "nvrtcCreateProgram"))(&program, text, null, 0, null, null));
        }

        var pointers = options.Select(Marshal.StringToCoTaskMemUTF8).ToArray();
        try
        {
            int result;
            fixed (nint* list = pointers)
            {
                result = ((delegate* unmanaged<nint, int, byte**, int>)NativeLibrary.GetExport(library, "nvrtcCompileProgram"))(program, options.Length, (byte**)list);
            }

            return result == 0
                ? Read(program, "nvrtcGetCUBINSize", "nvrtcGetCUBIN")
                : throw new InvalidOperationException(Encoding.UTF8.GetString(Read(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog")).TrimEnd('\0'));
        }
        finally
        {
            Array.ForEach(pointers, Marshal.FreeCoTaskMem);
            _ = ((delegate* unmanaged<nint*, int>)NativeLibrary.GetExport(library, "nvrtcDestroyProgram"))(&program);
        }

        byte[] Read(nint of, string sizeOf, string read)
        {
            nuint size;
            Check(((delegate* unmanaged<nint, nuint*, int>)NativeLibrary.GetExport(library, sizeOf))(of, &size));
            var bytes = new byte[size];
            fixed (byte* to = bytes)
            {
                Check(((delegate* unmanaged<nint, byte*, int>)NativeLibrary.GetExport(library, read))(of, to));
            }

            return bytes;
        }

        static void Check(int result)
        {
            if (result != 0)
            {
                throw new InvalidOperationException($"CUDA's run-time compiler failed with error {result}.");
            }
        }
    }
}
