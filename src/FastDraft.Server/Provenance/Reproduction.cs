namespace FastDraft.Server.Provenance;

/// <summary>An output as it was and as it came out now. <paramref name="FirstDifference"/>: the first file that differs, by name.</summary>
public sealed record ReproducedOutput(string Port, string Kind, string Recorded, string Now, string? FirstDifference)
{
    public bool IsEqual => Recorded == Now;
}

/// <summary>A stage run that was done again.</summary>
public sealed record ReproducedStage(string ActivityId, string Stage, int RecordedVersion, int ThisVersion, Guid RunId, IReadOnlyList<ReproducedOutput> Outputs);

/// <summary>A file outside the store that is not what a stage run read. <paramref name="Change"/>: changed, missing or new.</summary>
public sealed record ChangedInput(string ActivityId, string Setting, string Path, string Change);

/// <summary>What came of doing again what made an artifact. With changed inputs nothing was run.</summary>
public sealed record Reproduction(
    string Artifact, string Kind, string RecordedCode, IReadOnlyList<ChangedInput> ChangedInputs, IReadOnlyList<ReproducedStage> Stages)
{
    public bool IsEqual => ChangedInputs.Count == 0 && Stages.All(s => s.Outputs.All(o => o.IsEqual));
}
