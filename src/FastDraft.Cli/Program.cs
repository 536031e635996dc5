using System.CommandLine;
using FastDraft.Cli;
using FastDraft.Cli.Commands;
using FastDraft.Server.Worker;
using FastDraft.Stages;

// A worker is one attempt of one stage, started by the host; it is not a command for people.
if (args is ["worker", ..])
{
    return await WorkerProgram.RunAsync(args[1..], BuiltinStages.Create());
}

using var interrupts = new Interrupts();
var root = new RootCommand("Makes draft models for speculative decoding: from a target model and raw text to an aligned, evaluated, exported draft.")
{
    RunCommand.Build(interrupts),
    ServeCommand.Build(),
    PlanCommand.Build(),
    WorkflowCommand.Build(),
    RunsCommand.Build(interrupts),
    GenerateCommand.Build(),
    DoctorCommand.Build(),
    CompletionCommand.Build(),
    HelpCommand.Build(),
};
foreach (var command in ArtifactsCommand.Build())
{
    root.Subcommands.Add(command);
}

var parsed = root.Parse(args);
if (parsed.Errors.Count > 0)
{
    foreach (var error in parsed.Errors)
    {
        Console.Error.WriteLine("error: " + error.Message);
    }

    Console.Error.WriteLine("  try: fastdraft --help");
    return FastDraft.Core.Stages.ExitCode.Config;
}

// Signals are ours: a run that is stopped in order takes its workers with it first.
return await parsed.InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null }, interrupts.First);
