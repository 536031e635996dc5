using System.Diagnostics;

namespace FastDraft.Server.Retention;

/// <summary>Collects garbage every so often while a service runs. Of several services one finds the others at work and waits for its next turn.</summary>
internal sealed class CollectionLoop(PipelineStore store, PipelineOptions options)
{
    public async Task RunAsync(CancellationToken stop)
    {
        if (options.Settings.CollectEvery is not { } every)
        {
            return;
        }

        var collector = new Collector(store, options.Clock);
        using var timer = new PeriodicTimer(every, options.Clock);
        try
        {
            while (await timer.WaitForNextTickAsync(stop))
            {
                try
                {
                    var report = await collector.CollectAsync(options.Settings.Keep, KeepRules.DefaultGrace, dryRun: false, stop);
                    Trace.TraceInformation($"Garbage collection deleted {report.NumBlobs} files of {report.FreedBytes} bytes.");
                }
                catch (Exception e) when (e is not OperationCanceledException)
                {
                    // What is left is found the next time, and the loop is there for it.
                    Trace.TraceWarning("Garbage collection: " + e.Message);
                }
            }
        }
        catch (OperationCanceledException)
        {
            // The host ends.
        }
    }
}
