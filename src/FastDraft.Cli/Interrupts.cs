using System.Runtime.InteropServices;

namespace FastDraft.Cli;

/// <summary>
/// Ctrl-C and SIGTERM. The first one stops a command in order: a run keeps its finished stages and checkpoints and can go on. The
/// second Ctrl-C says that the run itself is not wanted any more.
/// </summary>
internal sealed class Interrupts : IDisposable
{
    private readonly CancellationTokenSource _first = new();
    private readonly CancellationTokenSource _second = new();
    private readonly List<PosixSignalRegistration> _registrations;

    public Interrupts() => _registrations =
    [
        PosixSignalRegistration.Create(PosixSignal.SIGINT, On),
        PosixSignalRegistration.Create(PosixSignal.SIGTERM, On),
    ];

    public CancellationToken First => _first.Token;

    public CancellationToken Second => _second.Token;

    public void Dispose()
    {
        _registrations.ForEach(r => r.Dispose());
        _first.Dispose();
        _second.Dispose();
    }

    private void On(PosixSignalContext context)
    {
        context.Cancel = true;
        (_first.IsCancellationRequested && context.Signal == PosixSignal.SIGINT ? _second : _first).Cancel();
    }
}
