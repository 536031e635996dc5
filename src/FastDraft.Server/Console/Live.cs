using FastDraft.Persistence;

namespace FastDraft.Server.ConsolePages;

/// <summary>How a page stays up to date: it asks the tables again, for they are what every host and process writes to.</summary>
internal static class Live
{
    /// <summary>Asks until the page is left. While the database is away the page keeps what it shows.</summary>
    public static async Task EveryAsync(TimeSpan interval, Func<Task> look, CancellationToken ct)
    {
        using var timer = new PeriodicTimer(interval);
        try
        {
            while (await timer.WaitForNextTickAsync(ct))
            {
                try
                {
                    await look();
                }
                catch (Exception e) when (PipelineDatabase.IsTrouble(e))
                {
                    // The next look may find it back.
                }
            }
        }
        catch (OperationCanceledException) when (ct.IsCancellationRequested)
        {
        }
        catch (ObjectDisposedException)
        {
            // The browser has gone between a look and its drawing.
        }
    }
}
