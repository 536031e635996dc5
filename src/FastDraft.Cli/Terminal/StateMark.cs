using FastDraft.Core.Runs;

namespace FastDraft.Cli.Terminal;

/// <summary>A state's word, shape and colour (an SGR code): the same three everywhere.</summary>
internal sealed record StateMark(string Word, string Shape, string Color)
{
    private const string Green = "32", Blue = "34", Red = "31", Yellow = "33", Grey = "90";

    /// <summary>The shape in two cells: the bolt is a wide character.</summary>
    public string Cell => Shape == "⚡" ? Shape : Shape + " ";

    public static StateMark Of(StageRunState state) => new(
        state.ToString().ToLowerInvariant(),
        state switch
        {
            StageRunState.Succeeded => "✓",
            StageRunState.Cached => "⚡",
            StageRunState.Running => "●",
            StageRunState.Failed or StageRunState.Crashed => "✗",
            StageRunState.Cancelled or StageRunState.Cancelling or StageRunState.Skipped => "–",
            _ => "○",
        },
        state switch
        {
            StageRunState.Succeeded or StageRunState.Cached => Green,
            StageRunState.Running => Blue,
            StageRunState.Failed or StageRunState.Crashed => Red,
            StageRunState.Cancelled or StageRunState.Cancelling or StageRunState.Skipped => Yellow,
            _ => Grey,
        });

    public static StateMark Of(RunState state) => state switch
    {
        RunState.Succeeded => Of(StageRunState.Succeeded),
        RunState.Failed => Of(StageRunState.Failed),
        RunState.Cancelled => Of(StageRunState.Cancelled),
        RunState.Cancelling => Of(StageRunState.Cancelling),
        RunState.Running => Of(StageRunState.Running),
        _ => Of(StageRunState.Pending),
    };
}
