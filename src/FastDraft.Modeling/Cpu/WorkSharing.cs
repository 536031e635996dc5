namespace FastDraft.Modeling.Cpu;

/// <summary>Work on a range of items; parts may run at the same time and must not depend on each other.</summary>
internal interface IRangeWork
{
    void Run(int start, int end);
}

/// <summary>
/// A few threads that take chunks of one range at a time. A step of decoding is some fifty ranges of tens of microseconds, too short for
/// a thread pool: helpers spin for a moment between ranges and then sleep. The caller takes chunks too and never waits for a
/// helper to wake, only for one that is inside a chunk. Which thread computes an item never changes its bits.
/// </summary>
internal sealed class WorkSharing : IDisposable
{
    private const int SpinsBeforeSleep = 2000;

    private static readonly Lazy<WorkSharing> SharedInstance = new(() => new WorkSharing(Environment.ProcessorCount));

    private readonly Lock _gate = new();
    private readonly Thread[] _helpers;
    private readonly SemaphoreSlim _wake = new(0);
    private IRangeWork? _work;
    private long _next; // Generation in the upper half, so that a late helper cannot take a chunk of the range after its own.
    private int _count;
    private int _chunk;
    private int _busy;
    private int _asleep;
    private int _generation;
    private volatile bool _stopped;

    public WorkSharing(int numThreads)
    {
        _helpers = [.. Enumerable.Range(1, Math.Max(0, numThreads - 1)).Select(i => new Thread(Help) { IsBackground = true, Name = $"decode-{i}" })];
        Array.ForEach(_helpers, h => h.Start());
    }

    /// <summary>One for the process: a target and a draft take turns, and helpers of the one would spin against those of the other.</summary>
    public static WorkSharing Shared => SharedInstance.Value;

    public int NumThreads => _helpers.Length + 1;

    /// <summary>Runs all of [0, count) and returns when it is done.</summary>
    public void Run(IRangeWork work, int count, int chunk)
    {
        // Another caller has the helpers: its range is as short as this one, waiting would cost more than working alone.
        if (_helpers.Length == 0 || count <= chunk || !_gate.TryEnter())
        {
            work.Run(0, count);
            return;
        }

        try
        {
            Share(work, count, chunk);
        }
        finally
        {
            _gate.Exit();
        }
    }

    public void Dispose()
    {
        _stopped = true;
        _wake.Release(Math.Max(1, _helpers.Length));
        Array.ForEach(_helpers, h => h.Join());
        _wake.Dispose();
    }

    private void Share(IRangeWork work, int count, int chunk)
    {
        // Closed first: a helper still looking at the old range must fail its exchange before it can see the new count.
        var generation = unchecked(_generation + 1);
        Interlocked.Exchange(ref _next, ((long)generation << 32) | int.MaxValue);
        _work = work;
        _count = count;
        _chunk = chunk;
        Volatile.Write(ref _next, (long)generation << 32);
        Interlocked.Exchange(ref _generation, generation);
        var asleep = Volatile.Read(ref _asleep);
        if (asleep > 0)
        {
            _wake.Release(asleep);
        }

        TakeChunks(generation);
        var spinner = new SpinWait();
        while (Volatile.Read(ref _busy) != 0)
        {
            spinner.SpinOnce(sleep1Threshold: -1);
        }
    }

    private void Help()
    {
        var seen = 0;
        while (!_stopped)
        {
            for (var spins = 0; Volatile.Read(ref _generation) == seen && !_stopped; spins++)
            {
                if (spins < SpinsBeforeSleep)
                {
                    Thread.SpinWait(8);
                    continue;
                }

                Interlocked.Increment(ref _asleep);
                if (Volatile.Read(ref _generation) == seen && !_stopped)
                {
                    _wake.Wait();
                }

                Interlocked.Decrement(ref _asleep);
                spins = 0;
            }

            seen = Volatile.Read(ref _generation);
            Interlocked.Increment(ref _busy);
            TakeChunks(seen);
            Interlocked.Decrement(ref _busy);
        }
    }

    private void TakeChunks(int generation)
    {
        while (true)
        {
            var next = Volatile.Read(ref _next);
            var start = (int)next;
            if ((int)(next >> 32) != generation || start >= _count)
            {
                return;
            }

            var end = Math.Min(start + _chunk, _count);
            if (Interlocked.CompareExchange(ref _next, ((long)generation << 32) | (uint)end, next) == next)
            {
                _work!.Run(start, end);
            }
        }
    }
}
