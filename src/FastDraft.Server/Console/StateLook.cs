using FastDraft.Core.Runs;

namespace FastDraft.Server.ConsolePages;

/// <summary>A state's word and the name of its shape and colour: the same everywhere in the console.</summary>
public sealed record StateLook(string Word, string Name)
{
    /// <summary>A run that only waits for a person.</summary>
    public static StateLook Waiting { get; } = new("Waiting", "waiting");

    public static StateLook Of(StageRunState state) => state switch
    {
        StageRunState.Running => new("Running", "running"),
        StageRunState.Succeeded => new("Succeeded", "succeeded"),
        StageRunState.Cached => new("Cached", "cached"),
        StageRunState.Failed => new("Failed", "failed"),
        StageRunState.Crashed => new("Crashed", "crashed"),
        StageRunState.Skipped => new("Skipped", "skipped"),
        StageRunState.Cancelling => new("Cancelling", "cancelled"),
        StageRunState.Cancelled => new("Cancelled", "cancelled"),
        StageRunState.Pending => new("Pending", "queued"),
        _ => new("Queued", "queued"),
    };

    public static StateLook Of(RunState state) => state switch
    {
        RunState.Running => Of(StageRunState.Running),
        RunState.Succeeded => Of(StageRunState.Succeeded),
        RunState.Failed => Of(StageRunState.Failed),
        RunState.Cancelling => Of(StageRunState.Cancelling),
        RunState.Cancelled => Of(StageRunState.Cancelled),
        _ => Of(StageRunState.Pending),
    };
}
