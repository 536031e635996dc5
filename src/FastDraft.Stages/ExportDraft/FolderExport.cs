using FastDraft.Export;
using FastDraft.Modeling.Cpu;
using FastDraft.Modeling.Models;

namespace FastDraft.Stages.ExportDraft;

/// <summary>
/// Exports a model folder without a run. The files are made beside the destination and get its name when all of them are whole: a kill
/// leaves the earlier export or the new one, and at most a folder NAME.partial, which the next export removes.
/// </summary>
public static class FolderExport
{
    private const int NumPrompts = 4;

    /// <summary>Writes the export, compares it with the model unless told not to, and puts it in place.</summary>
    /// <returns>The comparison; null where none was asked for.</returns>
    /// <exception cref="Modeling.Checkpoints.CheckpointException">The source is no model folder that can be read.</exception>
    /// <exception cref="Modeling.Tokenization.TokenizerException">Its tokenizer cannot be read.</exception>
    /// <exception cref="ExportException">The format cannot hold it, the destination holds something else, or the disk is too small.</exception>
    public static ExportComparison? Write(
        string model, string destination, ExportFormat format, WeightPrecision precision, bool compare, CancellationToken cancellationToken)
    {
        destination = Path.TrimEndingDirectorySeparator(Path.GetFullPath(destination));
        var config = DecoderConfig.Load(model);
        CheckDestination(Path.TrimEndingDirectorySeparator(Path.GetFullPath(model)), destination);
        CheckDisk(destination, config, precision);
        var partial = destination + ".partial";
        Remove(partial);
        try
        {
            Directory.CreateDirectory(partial);
            ModelExport.Write(model, partial, format, precision);
            cancellationToken.ThrowIfCancellationRequested();
            ExportComparison? comparison = null;
            if (compare)
            {
                using var reference = CpuCausalModel.Load(model);
                comparison = ExportComparison.Measure(reference, partial, format, precision, NumPrompts);
                if (comparison.Fault is { } fault)
                {
                    throw new ExportException($"The exported {ModelExport.NameOf(format)} model differs from '{model}': {fault}.");
                }

                comparison.Save(partial);
            }

            cancellationToken.ThrowIfCancellationRequested();
            ExportCard.Write(partial, ModelExport.NameOf(format), ModelExport.NameOf(precision), model, config.NumParameters);
            Replace(partial, destination);
            return comparison;
        }
        catch
        {
            Remove(partial);
            throw;
        }
    }

    // Only a folder that says it is an export of ours gives way to another.
    private static void CheckDestination(string model, string destination)
    {
        if (File.Exists(destination))
        {
            throw new ExportException($"'{destination}' is a file.", "another --out");
        }

        if (destination == model || model.StartsWith(destination + Path.DirectorySeparatorChar, StringComparison.Ordinal))
        {
            throw new ExportException($"'{destination}' holds the model itself.", "a folder of its own for the export");
        }

        if (Directory.Exists(destination) && Directory.EnumerateFileSystemEntries(destination).Any() && !ExportManifest.Exists(destination))
        {
            throw new ExportException($"'{destination}' is not empty and is no earlier export (it has no {ExportManifest.FileName}).", "an empty or new folder as --out");
        }
    }

    private static void CheckDisk(string destination, DecoderConfig config, WeightPrecision precision)
    {
        var folder = destination;
        while (!Directory.Exists(folder))
        {
            folder = Path.GetDirectoryName(folder)!;
        }

        var bitsPerWeight = precision switch { WeightPrecision.F32 => 32, WeightPrecision.F16 or WeightPrecision.BF16 => 16, WeightPrecision.Int4 => 5, _ => 9 };
        var needed = config.NumParameters / 8 * bitsPerWeight;
        var free = new DriveInfo(folder).AvailableFreeSpace;
        if (free < needed)
        {
            throw new ExportException($"'{folder}' has {free / 1e6:N0} MB free; the export needs about {needed / 1e6:N0} MB.", "an --out on a larger disk, or a smaller --precision");
        }
    }

    private static void Replace(string partial, string destination)
    {
        var earlier = destination + ".earlier";
        Remove(earlier);
        if (Directory.Exists(destination))
        {
            Directory.Move(destination, earlier);
        }

        // A kill between the two renames leaves both folders whole under other names.
        Directory.Move(partial, destination);
        Remove(earlier);
    }

    private static void Remove(string folder)
    {
        if (Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
