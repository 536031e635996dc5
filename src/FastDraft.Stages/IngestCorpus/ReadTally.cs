namespace FastDraft.Stages.IngestCorpus;

/// <summary>
/// What reading has seen so far. A row is a line of a text file, a row of a jsonl file or a documented type: the unit in which
/// bad input is counted.
/// </summary>
internal sealed class ReadTally
{
    public long NumRows { get; private set; }

    public long NumBad { get; private set; }

    /// <summary>The first bad row: its file, its line and what is wrong with it.</summary>
    public (string Path, int Line, string Why)? FirstBad { get; private set; }

    public void Row() => NumRows++;

    /// <summary>Marks a row, already counted by <see cref="Row"/>, as bad.</summary>
    public void Bad(string path, int line, string why)
    {
        NumBad++;
        FirstBad ??= (path, line, why);
    }
}
