namespace FastDraft.Modeling.Models;

/// <summary>
/// A causal language model behind a key-value cache of fixed capacity, for decoding and evaluation. Implemented by the TorchSharp
/// decoder, ONNX Runtime and OpenVINO, so that an evaluation measures what will be deployed.
/// </summary>
public interface ICausalModel : IDisposable
{
    int VocabularySize { get; }

    /// <summary>Positions the cache can hold.</summary>
    int ContextLength { get; }

    /// <summary>Weights counted for the cost ratio c (methods.md 2.1: draft parameters / target parameters).</summary>
    long NumParameters { get; }

    /// <summary>Starts an empty cache for <paramref name="batch"/> sequences that advance in lockstep.</summary>
    ICausalSession StartSession(int batch = 1, int? capacity = null);
}

/// <summary>
/// One decoding session. Invariant: the cache holds exactly <see cref="Length"/> positions; tokens fed after a rollback overwrite
/// what was there, and nothing is reallocated per block.
/// </summary>
public interface ICausalSession : IDisposable
{
    int Length { get; }

    int Capacity { get; }

    /// <summary>
    /// Feeds tokens (batch x count, row-major) and writes the float32 logits of the last <paramref name="numLogitRows"/> positions of
    /// every sequence into <paramref name="logits"/> (batch x numLogitRows x vocabulary, row-major).
    /// </summary>
    /// <exception cref="ArgumentException">The tokens exceed the capacity, or an id lies outside the vocabulary.</exception>
    void Forward(ReadOnlySpan<int> tokens, Span<float> logits, int numLogitRows);

    /// <summary>Truncates the cache to its first <paramref name="length"/> positions. O(1).</summary>
    void Rollback(int length);
}

/// <summary>A session that draws tokens where its logits are, so that a batch sends a few numbers over the bus and not batch x vocabulary.</summary>
public interface IDrawingSession : ICausalSession
{
    /// <summary>
    /// Feeds tokens (batch x count, row-major) and writes for each sequence the token at quantile <paramref name="uniforms"/> of the softmax of its last
    /// logits over <paramref name="temperatures"/>; at temperature 0 the most likely one, of equal ones the lowest id.
    /// </summary>
    /// <exception cref="ArgumentException">The tokens exceed the capacity, or an id lies outside the vocabulary.</exception>
    void Draw(ReadOnlySpan<int> tokens, ReadOnlySpan<double> temperatures, ReadOnlySpan<double> uniforms, Span<int> drawn);
}
