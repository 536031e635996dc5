using CsCheck;
using FastDraft.Core.Runs;

namespace FastDraft.Core.Tests.Runs;

public sealed class RunStateMachineFacts
{
    [Fact]
    public void Terminal_states_absorb_every_random_sequence() => Gen.Enum<StageRunState>().Array[1, 12].Sample(wanted =>
    {
        var state = StageRunState.Pending;
        foreach (var next in wanted)
        {
            var before = state;
            if (RunStateMachine.CanMove(state, next))
            {
                state = RunStateMachine.Move(state, next);
            }
            else
            {
                Assert.Throws<InvalidOperationException>(() => RunStateMachine.Move(state, next));
            }

            Assert.True(!RunStateMachine.IsTerminal(before) || state == before);
        }
    }, iter: 2000);

    [Fact]
    public void Only_crashed_attempts_are_retried_and_at_most_three_times()
    {
        Assert.True(RetryPolicy.ShouldRetry(StageRunState.Crashed, 2));
        Assert.False(RetryPolicy.ShouldRetry(StageRunState.Crashed, 3));
        Assert.False(RetryPolicy.ShouldRetry(StageRunState.Failed, 1));
    }
}
