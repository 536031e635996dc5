using System.Security.Cryptography;
using System.Runtime.InteropServices;
using System.Text.Json;
using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;

namespace FastDraft.Stages.GenerateSynthetic;

/// <summary>
/// Settings of a generation; all of them, and the prompts, decide the bytes. A text that hit the cap is dropped when a larger share of it
/// than <see cref="MaxRepetition"/> is repeated (methods.md 3.3); 1 keeps every text, loops too.
/// </summary>
public sealed record SyntheticGenerationOptions(
    string ModelDigest, int MaxNewTokens, IReadOnlyList<double> Temperatures, double MaxRepetition, IReadOnlyList<int> EosTokenIds, int BatchSize, ulong Seed);

/// <summary>Rows in input order, and where every input prompt went: <c>Rows + NumDropped + NumSkipped == NumInput</c>.</summary>
/// <param name="Rows">The kept rows.</param>
/// <param name="NumInput">Prompts given.</param>
/// <param name="NumDropped">Texts that hit the cap and repeat themselves too much.</param>
/// <param name="NumSkipped">Prompts that were empty, too long, or given before.</param>
public sealed record SyntheticGenerationResult(IReadOnlyList<SyntheticRow> Rows, int NumInput, int NumDropped, int NumSkipped);

/// <summary>
/// Generates a synthetic corpus batch by batch. A finished batch is one file in the resume folder, renamed into place and named by what
/// decides its bytes, so an attempt that dies loses at most the batch it was in, and one with other settings takes nothing over.
/// </summary>
public static class SyntheticGeneration
{
    public static SyntheticGenerationResult Run(
        ICausalModel target,
        IReadOnlyList<int[]> prompts,
        SyntheticGenerationOptions options,
        string resumeFolder,
        Action<int>? onRowsDone,
        CancellationToken cancellationToken)
    {
        var seen = new HashSet<string>(StringComparer.Ordinal);
        var accepted = new List<RolloutPrompt>();
        for (var i = 0; i < prompts.Count; i++)
        {
            var ids = prompts[i];
            if (ids.Length > 0 && ids.Length < target.ContextLength && seen.Add(Hash(ids)))
            {
                accepted.Add(new RolloutPrompt(i, ids, options.Temperatures[accepted.Count % options.Temperatures.Count]));
            }
        }

        var rows = new SortedDictionary<long, SyntheticRow>();
        var done = 0;
        foreach (var batch in accepted.GroupBy(p => p.Ids.Length).OrderBy(g => g.Key).SelectMany(g => g.Chunk(options.BatchSize)))
        {
            foreach (var row in Batch(target, batch, options, resumeFolder, cancellationToken))
            {
                rows.Add(long.Parse(row.Id, System.Globalization.CultureInfo.InvariantCulture), row);
            }

            onRowsDone?.Invoke(done += batch.Length);
        }

        return new([.. rows.Values], prompts.Count, accepted.Count - rows.Count, prompts.Count - accepted.Count);
    }

    private static SyntheticRow[] Batch(
        ICausalModel target, RolloutPrompt[] batch, SyntheticGenerationOptions options, string resumeFolder, CancellationToken cancellationToken)
    {
        var name = "batch-" + Convert.ToHexStringLower(SHA256.HashData(JsonSerializer.SerializeToUtf8Bytes(new { options, batch })));
        if (File.Exists(Path.Combine(resumeFolder, name + ".jsonl.gz")))
        {
            return [.. SyntheticCorpus.Read(resumeFolder, name)];
        }

        var texts = Rollout.Generate(target, batch, options.MaxNewTokens, options.EosTokenIds, options.Seed, cancellationToken);
        SyntheticRow[] rows =
        [
            .. batch.Zip(texts).Where(r => r.Second.Ended || Rollout.RepetitionRatio(r.Second.Ids) <= options.MaxRepetition).Select(r => new SyntheticRow
            {
                Id = r.First.RowNumber.ToString(System.Globalization.CultureInfo.InvariantCulture),
                PromptIds = r.First.Ids,
                ResponseIds = r.Second.Ids,
                Generator = new("target", options.ModelDigest),
                Sampling = new(r.First.Temperature, 1, 0, CounterRandom.Derive(options.Seed, (ulong)r.First.RowNumber)),
                FinishReason = r.Second.Ended ? "eos" : "length",
            }),
        ];
        SyntheticCorpus.Write(resumeFolder, name, rows);
        return rows;
    }

    private static string Hash(int[] ids) => Convert.ToHexStringLower(SHA256.HashData(MemoryMarshal.AsBytes(ids.AsSpan())));
}
