using System.CommandLine;
using FastDraft.Core.Stages;
using FastDraft.Persistence.Security;
using FastDraft.Server;
using FastDraft.Server.Designer.Studio;
using FastDraft.Server.Security;
using FastDraft.Server.Telemetry;
using FastDraft.Server.Web;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft serve</c>: the pipeline as a service with its designer, on one data folder, until it is told to stop.</summary>
internal static class ServeCommand
{
    public static Command Build()
    {
        var urls = new Option<string>("--urls") { Description = "Address to listen on; one that other machines reach only behind a proxy that speaks https (FASTDRAFT_URL)", DefaultValueFactory = _ => WebOptions.DefaultUrl };
        var accelerators = SharedOptions.NewAccelerators();
        var command = new Command("serve", "Start the service: designer, runs in the background, schedules, job dashboard") { urls, accelerators, SharedOptions.Data };
        command.SetAction((parsed, cancellationToken) => CliErrors.GuardAsync(() =>
        {
            var options = EmbeddedPipeline.Options(SharedOptions.DataFolder(parsed)) with { TakesUpUnfinishedRuns = true };
            return ServeAsync(
                parsed.GetValue(urls)!,
                options.Settings.Database is not null ? options with { Accelerators = SharedOptions.Accelerators(parsed, accelerators) }
                    : parsed.GetResult(accelerators) is { Implicit: false }
                        ? throw new CliException(ExitCode.Config, "--accelerator chooses among several hosts; a service that is alone on its data folder does everything.", "FASTDRAFT_DATABASE, or without --accelerator")
                        : options,
                cancellationToken);
        }));
        return command;
    }

    /// <summary>Completes when the process is told to stop.</summary>
    public static async Task UntilToldAsync(CancellationToken cancellationToken)
    {
        var asked = new TaskCompletionSource();
        await using var stopping = cancellationToken.Register(asked.SetResult);
        await asked.Task;
    }

    private static async Task<int> ServeAsync(string address, PipelineOptions options, CancellationToken cancellationToken)
    {
        if (!Uri.TryCreate(address, UriKind.Absolute, out var url))
        {
            throw new CliException(ExitCode.Config, $"--urls '{address}' is not an address.", "--urls " + WebOptions.DefaultUrl);
        }

        var web = new WebOptions { Url = url, PublicUrl = options.Projections.PublicUrl, AllowedHosts = options.Settings.AllowedHosts, StudioFolder = StudioFiles.Find() };
        if (web.Refusal is { } refusal)
        {
            throw new CliException(ExitCode.Config, "--urls: " + refusal, $"--urls {WebOptions.DefaultUrl}, and reach it from elsewhere by ssh -L 5080:127.0.0.1:5080; or docs/how-to/operate.md, \"Who may do what\"");
        }

        if (ProductionChecks.Find(options.Settings, options.Projections, web) is { Count: > 0 } problems)
        {
            throw new CliException(ExitCode.Config, [.. problems.Select(p => new CliError(p, null))]);
        }

        using var log = new ServiceLog(asJson: Console.IsErrorRedirected);
        options = options with { Loggers = log.Loggers };
        await using var host = await PipelineHost.StartAsync(options, cancellationToken);
        await using var service = await PipelineWeb.StartAsync(host, options, web, cancellationToken);
        Console.Out.WriteLine($"FastDraft is at {service.Address}   designer {service.Address}studio   jobs {service.Address}hangfire");
        await GreetAsync(host, service, isLocal: !options.Settings.IsProduction && !web.IsPublic, options.Clock, cancellationToken);
        log.Say($"the data folder is {options.DataFolder}");
        if (web.StudioFolder is null)
        {
            log.Warn($"The designer is not installed. Try: npm ci --ignore-scripts --prefix {StudioFiles.PackageFolder}, then start the service again");
        }

        await UntilToldAsync(cancellationToken);

        // Disposal, in this order: no new requests, then the workers are told to end; their runs go on when a host takes them up.
        log.Say("stopping; unfinished runs go on at the next start");
        return ExitCode.Ok;
    }

    /// <summary>
    /// Prints a link that signs in once: whoever starts a service of this machine alone owns its data anyhow, so there at every start; elsewhere
    /// only for the first person.
    /// </summary>
    private static async Task GreetAsync(PipelineHost host, PipelineWeb service, bool isLocal, TimeProvider clock, CancellationToken cancellationToken)
    {
        var credentials = new CredentialStore(host.Store, clock);
        if (isLocal || !await credentials.AnyAsync(cancellationToken))
        {
            var link = await credentials.CreateLinkAsync(isLocal ? Environment.UserName : "admin", Role.Admin, cancellationToken);
            Console.Out.WriteLine($"sign in once, within {CredentialStore.LinkLifetime.TotalMinutes:F0} minutes: {service.SignInAddress(link)}");
        }
    }
}
