using System.CommandLine;
using System.Globalization;
using FastDraft.Cli.Terminal;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Lineage;
using FastDraft.Core.Stages;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using FastDraft.Persistence.Lineage;
using FastDraft.Server;
using FastDraft.Server.Provenance;
using FastDraft.Server.Retention;
using FastDraft.Storage;
using FastDraft.Storage.S3;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft artifacts list|show|verify|get|pin|unpin|provenance|card</c></summary>
internal static class ArtifactsCommand
{
    private static readonly TimeSpan LinkValid = TimeSpan.FromMinutes(15);

    public static Command Build()
    {
        var command = new Command("artifacts", "List, show, verify, fetch and keep artifacts");
        var artifact = new Argument<string>("artifact") { Description = "Digest or unique prefix of one" };
        var optional = new Argument<string?>("artifact") { Description = "Digest or unique prefix; all when absent", Arity = ArgumentArity.ZeroOrOne };
        var folder = new Argument<string?>("folder") { Description = "Folder to write into; must not exist or be empty", Arity = ArgumentArity.ZeroOrOne };
        var kind = new Option<string?>("--kind") { Description = "Only this kind" };
        var limit = new Option<int>("--limit") { Description = "Artifacts to list", DefaultValueFactory = _ => 100 };

        var list = new Command("list", "Newest artifacts first") { kind, limit, SharedOptions.Data, SharedOptions.Format };
        list.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            var artifacts = await store.Queries.ListArtifactsAsync(parsed.GetValue(kind), parsed.GetValue(limit), token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(artifacts);
            }
            else
            {
                Output.WriteTable([["DIGEST", "KIND", "SIZE", "FILES", "STAGE", "RUN"], .. artifacts.Select(a => new[]
                {
                    Figures.Short(a.Digest), a.Kind, Figures.Bytes(a.SizeBytes), a.NumFiles.ToString(CultureInfo.InvariantCulture), a.Stage ?? string.Empty, a.RunId is { } run ? Figures.Short(run) : string.Empty,
                })]);
            }

            return ExitCode.Ok;
        }, token));

        var show = new Command("show", "An artifact's files") { artifact, SharedOptions.Data, SharedOptions.Format };
        show.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            var view = await EmbeddedPipeline.FindArtifactAsync(store.Queries, parsed.GetValue(artifact)!, token);
            var retention = await Pins.ShowAsync(store, view.Digest, token);
            if (retention.Collected is { } collected)
            {
                if (SharedOptions.IsJson(parsed))
                {
                    Output.WriteJson(new { view.Digest, view.Kind, view.SizeBytes, view.CreatedAt, view.RunId, view.Stage, Collected = collected });
                }
                else
                {
                    Console.Out.WriteLine($"{view.Digest}  {view.Kind}  {Figures.Bytes(view.SizeBytes)}\nmade by stage {view.Stage} of run {view.RunId}, {Figures.Time(view.CreatedAt)}\ncollected {Figures.Time(collected.At)}: {collected.Why}\n{Again(view)}");
                }

                return ExitCode.Ok;
            }

            var manifest = await store.Artifacts.ManifestAsync(Digest.Parse(view.Digest), token);
            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(new { view.Digest, view.Kind, view.SizeBytes, view.CreatedAt, view.RunId, view.Stage, retention.Pin, Files = manifest.Files.Select(f => new { f.Path, f.SizeBytes, Digest = f.Digest.ToString() }) });
            }
            else
            {
                Console.Out.WriteLine($"{view.Digest}  {view.Kind}  {Figures.Bytes(view.SizeBytes)}\nmade by stage {view.Stage} of run {view.RunId}, {Figures.Time(view.CreatedAt)}\n{(retention.Pin is { } pin ? $"pinned by {pin.By}, {Figures.Time(pin.At)}: {pin.Reason}\n" : string.Empty)}");
                Output.WriteTable([["FILE", "BYTES", "DIGEST"], .. manifest.Files.Select(f => new[] { f.Path, f.SizeBytes.ToString("N0", CultureInfo.InvariantCulture), f.Digest.ToString() })]);
            }

            return ExitCode.Ok;
        }, token));

        var verify = new Command("verify", "Read every byte again and compare it with its digest") { optional, SharedOptions.Data, SharedOptions.Format };
        verify.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            var artifacts = parsed.GetValue(optional) is { } one
                ? [await EmbeddedPipeline.FindArtifactAsync(store.Queries, one, token)]
                : await store.Queries.ListArtifactsAsync(null, int.MaxValue, token);
            var damaged = new List<Damage>();
            foreach (var view in artifacts)
            {
                if ((await Pins.ShowAsync(store, view.Digest, token)).Collected is null && await store.Artifacts.VerifyAsync(Digest.Parse(view.Digest), VerifyDepth.Full, token) is { Count: > 0 } damages)
                {
                    var made = await store.Queries.LineageAsync(new LineageQuery(view.Digest, LineageDirection.Downstream, Limit: 1), token);
                    damaged.Add(new Damage(view.Digest, view.Kind, [.. damages.Select(d => d.Message)], made.NumArtifacts - 1, made.Drafts));
                }
            }

            if (SharedOptions.IsJson(parsed))
            {
                Output.WriteJson(new { Artifacts = artifacts.Count, Damaged = damaged });
            }
            else
            {
                damaged.ForEach(Write);
                Console.Out.WriteLine(damaged.Count == 0 ? $"{artifacts.Count} artifacts, every byte as it was stored" : $"{damaged.Count} of {artifacts.Count} artifacts are damaged");
            }

            return damaged.Count == 0 ? ExitCode.Ok : ExitCode.Data;
        }, token));

        var links = new Option<bool>("--url") { Description = $"Print addresses from which anybody can read the files for {LinkValid.TotalMinutes:0} minutes, instead of copying them; only of an S3 store" };
        var get = new Command("get", "Copy an artifact's files into a folder") { artifact, folder, links, SharedOptions.Data };
        get.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            var view = await EmbeddedPipeline.FindArtifactAsync(store.Queries, parsed.GetValue(artifact)!, token);
            if ((await Pins.ShowAsync(store, view.Digest, token)).Collected is { } collected)
            {
                throw new CliException(ExitCode.Data, $"The bytes of artifact {view.Digest} were collected {Figures.Time(collected.At)}: {collected.Why}.", Again(view));
            }

            if (parsed.GetValue(links))
            {
                var bucket = store.Artifacts as S3ArtifactStore
                    ?? throw new CliException(ExitCode.Config, "Artifacts of this pipeline are files of the data folder: they have no addresses.", $"fastdraft artifacts get {Figures.Short(view.Digest)} FOLDER");
                foreach (var file in (await store.Artifacts.ManifestAsync(Digest.Parse(view.Digest), token)).Files)
                {
                    Console.Out.WriteLine($"{file.Path}\t{await bucket.LinkAsync(file, LinkValid)}");
                }

                await Console.Error.WriteLineAsync($"valid until {Figures.Time(TimeProvider.System.GetUtcNow() + LinkValid)}, for anybody who has them");
                return ExitCode.Ok;
            }

            var target = Path.GetFullPath(parsed.GetValue(folder) ?? throw new CliException(ExitCode.Config, "Nothing says where to.", $"fastdraft artifacts get {Figures.Short(view.Digest)} FOLDER"));
            if (Directory.Exists(target) && Directory.EnumerateFileSystemEntries(target).Any())
            {
                throw new CliException(ExitCode.Config, $"Folder '{target}' is not empty; an artifact is copied into a folder of its own.", "a new folder");
            }

            await store.Artifacts.MaterializeAsync(Digest.Parse(view.Digest), target, token);
            await DescribeAsync(store, view, target, token);
            await store.RememberAsync(new AuditEntry(AuditAction.ArtifactExported, view.Digest), token);
            Console.Out.WriteLine(target);
            return ExitCode.Ok;
        }, token));

        var reason = new Option<string>("--reason") { Description = "Why it is to be kept", Required = true };
        var by = new Option<string>("--by") { Description = "Who decides", DefaultValueFactory = _ => Environment.UserName };
        var pin = new Command("pin", "Keep an artifact whatever the rules of gc say") { artifact, reason, by, SharedOptions.Data };
        pin.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            var view = await EmbeddedPipeline.FindArtifactAsync(store.Queries, parsed.GetValue(artifact)!, token);
            await Pins.PinAsync(store, view.Digest, parsed.GetValue(reason)!, parsed.GetValue(by)!, TimeProvider.System.GetUtcNow(), token);
            Console.Out.WriteLine($"{view.Digest} is kept");
            return ExitCode.Ok;
        }, token));

        var unpin = new Command("unpin", "Leave an artifact to the rules of gc again") { artifact, SharedOptions.Data };
        unpin.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            var view = await EmbeddedPipeline.FindArtifactAsync(store.Queries, parsed.GetValue(artifact)!, token);
            Console.Out.WriteLine(await Pins.UnpinAsync(store, view.Digest, token) ? $"{view.Digest} is left to the rules" : $"{view.Digest} was not pinned");
            return ExitCode.Ok;
        }, token));

        var provenance = new Command("provenance", "Where an artifact came from, as an in-toto statement with SLSA provenance") { artifact, SharedOptions.Data };
        provenance.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            var view = await EmbeddedPipeline.FindArtifactAsync(store.Queries, parsed.GetValue(artifact)!, token);
            Output.WriteJson(await ProvenanceStatement.OfAsync(store, view.Digest, token));
            return ExitCode.Ok;
        }, token));

        var card = new Command("card", "The model card of a draft: what it is, how it was measured, from what it was made") { artifact, SharedOptions.Data };
        card.SetAction((parsed, token) => WithStore(parsed, async store =>
        {
            var view = await EmbeddedPipeline.FindArtifactAsync(store.Queries, parsed.GetValue(artifact)!, token);
            Console.Out.Write(await ModelCard.OfAsync(store, view.Digest, token));
            return ExitCode.Ok;
        }, token));

        command.Subcommands.Add(list);
        command.Subcommands.Add(show);
        command.Subcommands.Add(verify);
        command.Subcommands.Add(get);
        command.Subcommands.Add(pin);
        command.Subcommands.Add(unpin);
        command.Subcommands.Add(provenance);
        command.Subcommands.Add(card);
        return command;
    }

    private static string Again(ArtifactView view) => view.RunId is { } run ? $"make it again: fastdraft runs retry {Figures.Short(run)}" : "nothing says what made it";

    /// <summary>Beside the artifact's own files, which stay as they are: where it came from and, of a model, its card.</summary>
    private static async Task DescribeAsync(PipelineStore store, ArtifactView view, string folder, CancellationToken cancellationToken)
    {
        if (view.RunId is null)
        {
            return;
        }

        await File.WriteAllTextAsync(Path.Join(folder, ProvenanceStatement.FileName), (await ProvenanceStatement.OfAsync(store, view.Digest, cancellationToken)).ToJsonString(Output.Json) + "\n", cancellationToken);
        if (ModelCard.Describes(view.Kind))
        {
            await File.WriteAllTextAsync(Path.Join(folder, ModelCard.FileName), await ModelCard.OfAsync(store, view.Digest, cancellationToken), cancellationToken);
        }
    }

    private static void Write(Damage damage)
    {
        foreach (var message in damage.Messages)
        {
            Console.Out.WriteLine($"{damage.Digest}  {damage.Kind}  {message}");
        }

        var drafts = damage.Drafts.Select(d => $"{d.Name} version {d.Version}{string.Concat(d.Aliases.Select(a => ", " + a))}").ToList();
        Console.Out.WriteLine($"  {damage.NumMadeFromIt} artifacts were made from it" + (drafts.Count > 0 ? ", registered drafts among them: " + string.Join("; ", drafts) : string.Empty));
    }

    /// <summary>An artifact whose bytes are not what they were, and what depends on it.</summary>
    private sealed record Damage(string Digest, string Kind, IReadOnlyList<string> Messages, int NumMadeFromIt, IReadOnlyList<AffectedDraft> Drafts);

    private static Task<int> WithStore(ParseResult parsed, Func<PipelineStore, Task<int>> action, CancellationToken cancellationToken) => CliErrors.GuardAsync(async () =>
    {
        await using var store = await EmbeddedPipeline.OpenAsync(parsed, cancellationToken);
        return await action(store);
    });
}
