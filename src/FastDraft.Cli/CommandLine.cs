using System.CommandLine;
using FastDraft.Cli.Commands;

namespace FastDraft.Cli;

/// <summary>Every command of <c>fastdraft</c>. The list is frozen by a convention test: scripts rely on it.</summary>
internal static class CommandLine
{
    public static RootCommand Build(Interrupts interrupts)
    {
        return new RootCommand("Makes draft models for speculative decoding: from a target model and raw text to an aligned, evaluated, exported draft.")
        {
            RunCommand.Build(interrupts),
            ServeCommand.Build(),
            NodeCommand.Build(),
            PlanCommand.Build(),
            WorkflowCommand.Build(),
            RunsCommand.Build(interrupts),
            ScheduleCommand.Build(),
            GatesCommand.Build(),
            EventsCommand.Build(),
            ModelsCommand.Build(),
            ProjectionsCommand.Build(),
            ArtifactsCommand.Build(),
            LineageCommand.Build(),
            ReproduceCommand.Build(),
            CacheCommand.Build(),
            GcCommand.Build(),
            BackupCommand.Build(),
            AuditCommand.Build(),
            TokenCommand.Build(),
            GenerateCommand.Build(),
            ExportCommand.Build(),
            DoctorCommand.Build(),
            CompletionCommand.Build(),
            HelpCommand.Build(),
        };
    }
}
