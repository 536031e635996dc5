using System.Security.Claims;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using FastDraft.Persistence.Security;
using FastDraft.Server.Gates;
using FastDraft.Server.Registry;
using FastDraft.Server.Retention;
using FastDraft.Server.Scheduling;
using Microsoft.AspNetCore.Components.Authorization;
using MudBlazor;

namespace FastDraft.Server.ConsolePages;

/// <summary>
/// Whatever a person changes in the console goes through here: who may, as whom the audit remembers it, and how the person learns what
/// came of it. The acts themselves are those of the services that the command line and the API call.
/// </summary>
public sealed class ConsoleActs(PipelineHost host, PipelineOptions options, GateStore gates, ISnackbar messages, AuthenticationStateProvider authentication)
{
    private readonly ScheduleStore schedules = new(host.Store, options.Clock);

    /// <summary>Whether buttons that change something are shown.</summary>
    public bool MayOperate => User.IsInRole(nameof(Role.Operator));

    /// <summary>As whom this browser is signed in.</summary>
    public string UserName => User.Identity?.Name ?? "";

    /// <summary>The greatest role of whoever is signed in, as a word.</summary>
    public string UserRole => Enum.GetValues<Role>().LastOrDefault(r => User.IsInRole(r.ToString())).ToString().ToLowerInvariant();

    // Known before the first component is drawn.
    private ClaimsPrincipal User => authentication.GetAuthenticationStateAsync() is { IsCompletedSuccessfully: true } known ? known.GetAwaiter().GetResult().User : new ClaimsPrincipal();

    public Task<bool> CancelAsync(Guid run) => DoAsync("Asked to cancel: its stages stop within ten seconds.", async () =>
    {
        if (!await host.CancelAsync(run))
        {
            throw new StageFailureException(FailureKind.Config, "The run has already ended.");
        }
    });

    /// <returns>The new run; null where it was refused.</returns>
    public async Task<Guid?> RetryAsync(Guid run)
    {
        Guid? id = null;
        await DoAsync("Started again: what had succeeded is reused.", async () => id = await host.RetryAsync(run));
        return id;
    }

    public Task<bool> DecideAsync(GateView gate, bool approved, string? reason) => DoAsync(
        $"'{gate.Title}' is {(approved ? "approved" : "rejected")}.",
        () => gates.DecideAsync(gate.RunId, gate.Reference[(gate.Reference.IndexOf('/', StringComparison.Ordinal) + 1)..], approved, Actor.Current, string.IsNullOrWhiteSpace(reason) ? null : reason.Trim(), CancellationToken.None));

    public Task<bool> PauseAsync(string schedule) => DoAsync($"'{schedule}' is paused.", () => schedules.PauseAsync(schedule, CancellationToken.None));

    public Task<bool> ResumeAsync(string schedule) => DoAsync($"'{schedule}' goes on from now.", () => schedules.ResumeAsync(schedule, CancellationToken.None));

    /// <param name="why">Kept for ever.</param>
    public Task<bool> PromoteAsync(string name, int version, string why) => DoAsync(
        $"'{name}' version {version} is the champion.",
        () => DraftRegistry.PromoteAsync(host.Store, name, version, Actor.Current, Reason(why), options.Clock.GetUtcNow(), CancellationToken.None));

    /// <param name="target">The digest of the target whose champion goes back.</param>
    public async Task<bool> RollbackAsync(string name, string target, string why)
    {
        DraftView? back = null;
        return await DoAsync(
            () => $"'{name}' version {back!.Version} is the champion again.",
            async () => back = await DraftRegistry.RollbackAsync(host.Store, name, target, Actor.Current, Reason(why), options.Clock.GetUtcNow(), CancellationToken.None));
    }

    public Task<bool> PinAsync(string digest, string why) => DoAsync(
        "It is kept, whatever the rules of collection say.", () => Pins.PinAsync(host.Store, digest, Reason(why), Actor.Current, options.Clock.GetUtcNow(), CancellationToken.None));

    public Task<bool> UnpinAsync(string digest) => DoAsync("It is left to the rules of collection.", () => Pins.UnpinAsync(host.Store, digest, CancellationToken.None));

    public async Task<bool> BackfillAsync(string schedule, DateTimeOffset from, DateTimeOffset to)
    {
        var count = 0;
        return await DoAsync(
            () => count == 0 ? "Every nominal time of the range has its run already." : $"Started {count} runs.",
            async () => count = (await host.Scheduler.BackfillAsync(schedule, from, to, CancellationToken.None)).Count);
    }

    private static string Reason(string text) => string.IsNullOrWhiteSpace(text) ? throw new StageFailureException(FailureKind.Config, "A reason is missing.", "why, in a sentence") : text.Trim();

    private Task<bool> DoAsync(string done, Func<Task> act) => DoAsync(() => done, act);

    private async Task<bool> DoAsync(Func<string> done, Func<Task> act)
    {
        try
        {
            if (!MayOperate)
            {
                throw new StageFailureException(FailureKind.Config, $"'{User.Identity?.Name}' may look but not do this.", "a token whose role is operator");
            }

            using (Actor.Become(User.Identity!.Name!))
            {
                await act();
            }

            messages.Add(done(), Severity.Success);
            return true;
        }
        catch (Exception e) when (e is StageFailureException or ArgumentException || PipelineDatabase.IsTrouble(e))
        {
            messages.Add(e is StageFailureException { Hint: { } hint } ? $"{e.Message} Try: {hint}" : e.Message, Severity.Error);
            return false;
        }
    }
}
