using System.Runtime.InteropServices;

namespace FastDraft.Cli;

/// <summary>
/// Ctrl-C and SIGTERM. The first one stops a command in order: a run keeps its finished stages and checkpoints and can go on. The
/// second Ctrl-C ends the process, unless a command listens to it.
/// </summary>
internal sealed class Interrupts : IDisposable
{
    private readonly CancellationTokenSource _first = new();
    private readonly CancellationTokenSource _second = new();
    private readonly List<PosixSignalRegistration> _registrations;
    private volatile bool _listening;

    public Interrupts() => _registrations =
    [
        PosixSignalRegistration.Create(PosixSignal.SIGINT, On),
        PosixSignalRegistration.Create(PosixSignal.SIGTERM, On),
    ];

    public CancellationToken First => _first.Token;

    /// <summary>From now on the second Ctrl-C is the caller's.</summary>
    public CancellationToken ListenToSecond()
    {
        _listening = true;
        return _second.Token;
    }

    public void Dispose()
    {
        _registrations.ForEach(r => r.Dispose());
        _first.Dispose();
        _second.Dispose();
    }

    private void On(PosixSignalContext context)
    {
        var again = _first.IsCancellationRequested && context.Signal == PosixSignal.SIGINT;
        context.Cancel = !again || _listening;
        (again ? _second : _first).Cancel();
    }
}
