using FastDraft.Core.Stages;

namespace FastDraft.Storage.S3;

/// <summary>What went wrong with one try and may go right with the next.</summary>
internal sealed class TransientException(string message, Exception? inner = null) : Exception(message, inner);

/// <summary>
/// The limits of every operation: so many tries, a growing pause between them, and no try that waits longer than the limit without
/// a byte moving.
/// </summary>
internal sealed class S3Tries(S3Settings settings)
{
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(10);

    /// <param name="what">For the error, as <c>read 'pipeline/sha256/ab/ab...'</c>.</param>
    /// <param name="attempt">One try; calls <see cref="Stillness.Moved"/> whenever something moved and gives up with its token.</param>
    /// <exception cref="StageFailureException">No try succeeded.</exception>
    public async Task<T> RunAsync<T>(string what, Func<Stillness, Task<T>> attempt, CancellationToken cancellationToken)
    {
        for (var number = 1; ; number++)
        {
            using var stillness = new Stillness(settings.MaxStill, cancellationToken);
            string why;
            try
            {
                return await attempt(stillness);
            }
            catch (Exception e) when (WhyTransient(e, stillness, cancellationToken) is { } reason)
            {
                why = reason;
                if (number >= settings.MaxTries)
                {
                    throw new StageFailureException(
                        FailureKind.Infrastructure,
                        $"The object store at {settings.Endpoint} did not {what} in bucket '{settings.Bucket}', in {number} tries. The last time: {why}",
                        "fastdraft doctor looks at the store; when it answers again, run it again with --resume", e);
                }
            }

            var pause = settings.FirstPause * Math.Pow(2, number - 1) * (0.5 + Random.Shared.NextDouble());
            await Task.Delay(pause < LongestPause ? pause : LongestPause, cancellationToken);
        }
    }

    private static string? WhyTransient(Exception e, Stillness stillness, CancellationToken cancellationToken) =>
        cancellationToken.IsCancellationRequested ? null
        : stillness.IsOver ? $"for {stillness.Limit.TotalSeconds:0.#} s nothing moved."
        : e is TransientException ? e.Message
        : e is HttpRequestException ? (e.InnerException ?? e).Message
        : null;
}

/// <summary>A token that is cancelled when nothing has moved for the limit.</summary>
internal sealed class Stillness : IDisposable
{
    private readonly CancellationTokenSource source;
    private readonly CancellationToken outer;

    public Stillness(TimeSpan limit, CancellationToken outer)
    {
        (Limit, this.outer) = (limit, outer);
        source = CancellationTokenSource.CreateLinkedTokenSource(outer);
        source.CancelAfter(limit);
    }

    public TimeSpan Limit { get; }

    public CancellationToken Token => source.Token;

    public bool IsOver => source.IsCancellationRequested && !outer.IsCancellationRequested;

    public void Moved() => source.CancelAfter(Limit);

    public void Dispose() => source.Dispose();
}
