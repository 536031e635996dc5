using CsCheck;
using FastDraft.Core.Runs;

namespace FastDraft.Core.Tests.Runs;

public sealed class RunStateMachineFacts
{
    [Fact]
    public void Terminal_states_absorb_every_random_sequence_and_every_run_can_still_end() =>
        Gen.Select(Gen.Enum<StageRunState>().Array[1, 12], Gen.Enum<RunState>().Array[1, 12]).Sample(
            (stageRun, run) =>
            {
                Walk(StageRunState.Pending, stageRun, RunStateMachine.CanMove, RunStateMachine.Move, RunStateMachine.IsTerminal);
                Walk(RunState.Pending, run, RunStateMachine.CanMove, RunStateMachine.Move, RunStateMachine.IsTerminal);
            },
            iter: 100_000);

    [Fact]
    public void A_move_is_made_where_it_is_legal_and_refused_everywhere_else()
    {
        foreach (var (from, to) in Enum.GetValues<StageRunState>().SelectMany(_ => Enum.GetValues<StageRunState>(), (a, b) => (a, b)))
        {
            AssertMove(from, to, RunStateMachine.CanMove, RunStateMachine.Move);
        }

        foreach (var (from, to) in Enum.GetValues<RunState>().SelectMany(_ => Enum.GetValues<RunState>(), (a, b) => (a, b)))
        {
            AssertMove(from, to, RunStateMachine.CanMove, RunStateMachine.Move);
        }
    }

    // Attempts end one after the other, each as a random verdict says.
    [Fact]
    public void A_stage_run_ends_after_three_attempts_at_most() => Gen.Enum<StageRunState>().Array[0, 8].Sample(
        verdicts =>
        {
            var (state, numAttempts) = (StageRunState.Queued, 0);
            foreach (var verdict in verdicts.Where(v => RunStateMachine.CanMove(StageRunState.Running, v)).Append(StageRunState.Crashed).Append(StageRunState.Crashed).Append(StageRunState.Crashed))
            {
                if (RunStateMachine.IsTerminal(state))
                {
                    break;
                }

                numAttempts++;
                state = RunStateMachine.Move(RunStateMachine.Move(state, StageRunState.Running), verdict);
                state = state switch
                {
                    StageRunState.Crashed => RunStateMachine.Move(state, RetryPolicy.ShouldRetry(state, numAttempts) ? StageRunState.Queued : StageRunState.Failed),
                    StageRunState.Cancelling => RunStateMachine.Move(state, StageRunState.Cancelled),
                    _ => state,
                };
            }

            Assert.True(RunStateMachine.IsTerminal(state));
            Assert.InRange(numAttempts, 1, RetryPolicy.MaxAttempts);
        },
        iter: 100_000);

    private static void Walk<T>(T start, T[] wanted, Func<T, T, bool> canMove, Func<T, T, T> move, Func<T, bool> isTerminal)
        where T : struct, Enum
    {
        var state = start;
        foreach (var next in wanted)
        {
            var before = state;
            state = canMove(state, next) ? move(state, next) : state;
            Assert.True(!isTerminal(before) || before.Equals(state));
            Assert.True(isTerminal(state) || Enum.GetValues<T>().Any(to => canMove(state, to)), $"{state} is a dead end.");
        }
    }

    private static void AssertMove<T>(T from, T to, Func<T, T, bool> canMove, Func<T, T, T> move)
        where T : struct, Enum
    {
        if (canMove(from, to))
        {
            Assert.Equal(to, move(from, to));
        }
        else
        {
            Assert.Throws<InvalidOperationException>(() => move(from, to));
        }
    }
}
