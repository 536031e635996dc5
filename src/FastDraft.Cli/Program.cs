using System.CommandLine;
using System.Reflection;
using FastDraft.Cli;
using FastDraft.Server.Worker;
using FastDraft.Stages;

// What scripts ask often is answered before anything else is loaded.
return args is ["--version"] ? TellVersion() : await RunAsync(args);

static int TellVersion()
{
    Console.Out.WriteLine(typeof(CommandLine).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion);
    return 0;
}

static async Task<int> RunAsync(string[] args)
{
    // A worker is one attempt of one stage, started by the host; it is not a command for people.
    if (args is ["worker", ..])
    {
        return await WorkerProgram.RunAsync(args[1..], BuiltinStages.Create());
    }

    using var interrupts = new Interrupts();
    var parsed = CommandLine.Build(interrupts).Parse(args);
    if (parsed.Errors.Count > 0)
    {
        return CliErrors.OfArguments(parsed);
    }

    // Signals are ours: a run that is stopped in order takes its workers with it first.
    return await parsed.InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null }, interrupts.First);
}
