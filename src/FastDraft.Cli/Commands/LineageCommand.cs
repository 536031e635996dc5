using System.CommandLine;
using System.Globalization;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Lineage;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Persistence.Lineage;
using FastDraft.Server;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft lineage</c>: what made this, or what breaks if it is withdrawn.</summary>
internal static class LineageCommand
{
    public static Command Build()
    {
        var what = new Argument<string>("artifact") { Description = "Digest of an artifact, of a corpus or target outside the store, or of one of their files; a unique prefix, or the file itself" };
        var downstream = new Option<bool>("--downstream") { Description = "What was made from it, registered drafts first, instead of what made it" };
        var depth = new Option<int?>("--depth") { Description = "How many artifacts away at most; all when absent" };
        var limit = new Option<int>("--limit") { Description = "Nodes to describe; what lies beyond is counted", DefaultValueFactory = _ => 1000 };
        var command = new Command("lineage", "What made this artifact: corpora, target, stages, settings, code; or what was made from it") { what, downstream, depth, limit, SharedOptions.Data, SharedOptions.Format };
        command.SetAction((parsed, token) => CliErrors.GuardAsync(async () =>
        {
            await using var store = await EmbeddedPipeline.OpenAsync(parsed, token);
            var direction = parsed.GetValue(downstream) ? LineageDirection.Downstream : LineageDirection.Upstream;
            var start = await FindAsync(store, parsed.GetValue(what)!, token);
            var graph = await store.Queries.LineageAsync(new LineageQuery(start, direction, parsed.GetValue(depth) ?? int.MaxValue, parsed.GetValue(limit)), token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(graph);
            }
            else
            {
                Write(graph);
            }

            return ExitCode.Ok;
        }));
        return command;
    }

    /// <summary>What a text names; a file is known by its content, wherever it lay when it was read.</summary>
    private static async Task<string> FindAsync(PipelineStore store, string reference, CancellationToken cancellationToken)
    {
        try
        {
            if (await store.Queries.FindLineageAsync(reference, cancellationToken) is { } found)
            {
                return found;
            }

            if (!File.Exists(reference))
            {
                // Nothing, and what has a NUL in it, is no path.
                return (reference.Length == 0 || reference.Contains('\0', StringComparison.Ordinal) ? null : await store.Queries.FindLineageAsync(Path.GetFullPath(reference), cancellationToken))
                    ?? throw new CliException(ExitCode.Config, $"No artifact and no file that a run read is '{reference}'.", "fastdraft artifacts list");
            }

            await using var stream = File.OpenRead(reference);
            var digest = await Digest.OfStreamAsync(stream, cancellationToken);
            return await store.Queries.FindLineageAsync(digest.ToString(), cancellationToken)
                ?? throw new CliException(ExitCode.Config, $"No run read the file '{reference}' with the content that it has now ({digest}).", "the path where it lay, or its digest of then");
        }
        catch (AmbiguousReferenceException e)
        {
            throw new CliException(ExitCode.Config, $"'{reference}' names more than one thing.", string.Join(", ", e.Candidates));
        }
    }

    private static void Write(LineageView graph)
    {
        if (graph.Direction == LineageDirection.Downstream)
        {
            Console.Out.WriteLine(graph.Drafts.Count == 0 ? "no registered draft was made from it" : $"{graph.Drafts.Count} registered draft{(graph.Drafts.Count == 1 ? " was" : "s were")} made from it");
            if (graph.Drafts.Count > 0)
            {
                Output.WriteTable([["DRAFT", "VERSION", "IS", "MODEL", "TARGET"], .. graph.Drafts.Select(d => new[]
                {
                    d.Name, d.Version.ToString(CultureInfo.InvariantCulture), string.Join(", ", d.Aliases), d.ModelDigest, Figures.Short(d.TargetDigest),
                })]);
            }

            Console.Out.WriteLine();
        }

        foreach (var line in new LineageTree(graph).Draw(graph.Start))
        {
            Console.Out.WriteLine(line);
        }

        if (graph.NumOmitted > 0)
        {
            Console.Out.WriteLine($"\n{graph.NumOmitted} of {graph.NumArtifacts + graph.NumStageRuns} nodes are not shown; --limit shows more, --depth fewer");
        }
    }
}
