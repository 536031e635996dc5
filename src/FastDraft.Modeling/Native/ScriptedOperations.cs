using TorchSharp;
using static TorchSharp.torch;

namespace FastDraft.Modeling.Native;

// Shapes: T positions, S head size, F intermediate size; a leading * is any number of dimensions.

/// <summary>
/// Operations that libtorch has and TorchSharp does not bind, reached through TorchScript. One call is one crossing into native code,
/// and on a GPU one or two passes over memory where the same written in single operations takes ten.
/// </summary>
internal static class ScriptedOperations
{
    // A result that is not returned is dead code to TorchScript, also where it is the argument written in place.
    private const string Source = """
        def rms_norm(x, weight, epsilon: float):
            return torch.rms_norm(x, [x.size(-1)], weight, epsilon)

        def embedding(weight, ids):
            return torch.embedding(weight, ids)

        def embedding_backward(gradient, ids, rows: int):
            return torch.embedding_dense_backward(gradient, ids, rows, -1, False)

        def gate(gate, up):
            return torch.silu(gate) * up

        def rotate(x, cos, sin):
            first, second = x.chunk(2, -1)
            return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

        def adamw(weights, gradient, moment1, moment2, step, scale, skip, rate: float, beta1: float, beta2: float, decay: float, epsilon: float):
            p = [weights]
            torch._fused_adamw_(p, [gradient], [moment1], [moment2], [], [step], lr=rate, beta1=beta1, beta2=beta2, weight_decay=decay, eps=epsilon, amsgrad=False, maximize=False, grad_scale=scale, found_inf=skip)
            return p[0]

        """;

    private static readonly Lazy<jit.CompilationUnit> Unit = new(() =>
    {
        Libtorch.Load();
        return jit.compile(Source);
    });

    /// <summary>x [*, D] over its root mean square, times weight [D]; summed in float32 whatever the dtype.</summary>
    public static Tensor RmsNorm(Tensor x, Tensor weight, double epsilon) => Call("rms_norm", x, weight, epsilon);

    /// <summary>Rows of weight [V, D] by ids [*]. Its gradient sums a token's rows in float32, which index_select's does not.</summary>
    public static Tensor Embedding(Tensor weight_VD, Tensor ids) => Call("embedding", weight_VD, ids);

    /// <summary>The gradient of <see cref="Embedding"/> with respect to weight, [V, D].</summary>
    public static Tensor EmbeddingBackward(Tensor gradient, Tensor ids, int vocabularySize) => Call("embedding_backward", gradient, ids, vocabularySize);

    // TorchScript runs the first calls of a process operation by operation and later ones, where several operations are in one function,
    // with derivative formulas of its own: other bits. A training that is resumed in a new process has to repeat those of the one that
    // died, which on the CPU is promised; so there these two are single operations.

    /// <summary>SwiGLU (2002.05202): silu(gate) * up, both [*, F].</summary>
    public static Tensor Gate(Tensor gate, Tensor up) => OnCpu(gate) ? nn.functional.silu(gate) * up : Call("gate", gate, up);

    /// <summary>Rotary positions (2104.09864), half-split: x [*, T, S] with cos and sin [T, S / 2] or what broadcasts to them.</summary>
    public static Tensor Rotate(Tensor x, Tensor cos, Tensor sin)
    {
        if (!OnCpu(x))
        {
            return Call("rotate", x, cos, sin);
        }

        var halves = x.chunk(2, -1);
        return cat([(halves[0] * cos) - (halves[1] * sin), (halves[1] * cos) + (halves[0] * sin)], -1);
    }

    /// <summary>
    /// One AdamW step in place in one pass; all tensors float32 and of one shape. The gradient is divided by <paramref name="scale"/>;
    /// nothing is written where <paramref name="skip"/> is 1 (both scalar tensors on the same device).
    /// </summary>
    public static void AdamW(
        Tensor weights, Tensor gradient, Tensor moment1, Tensor moment2, Tensor step, Tensor scale, Tensor skip,
        double rate, double beta1, double beta2, double decay, double epsilon) =>
        Call("adamw", weights, gradient, moment1, moment2, step, scale, skip, rate, beta1, beta2, decay, epsilon).Dispose();

    private static readonly Lock Calls = new();

    private static bool OnCpu(Tensor x) => x.device_type == DeviceType.CPU;

    /// <summary>One call at a time: two threads in one compilation unit were seen to fail inside TorchScript.</summary>
    private static Tensor Call(string name, params object[] arguments)
    {
        lock (Calls)
        {
            return (Tensor)Unit.Value.invoke(name, arguments);
        }
    }
}
