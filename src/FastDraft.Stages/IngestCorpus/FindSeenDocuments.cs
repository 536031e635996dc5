using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;

namespace FastDraft.Stages.IngestCorpus;

/// <summary>Looks up what earlier runs of the same workflow have ingested. The server answers; there is no worker.</summary>
public static class FindSeenDocuments
{
    public const string Name = "FindSeenDocuments";
    public const string Found = "Found";
    public const string None = "None";
    public const string Seen = "seen";

    public static StageDescriptor Describe() => new(
        Name, 1, "Takes up the documents that the last successful run of this workflow, and those before it, have ingested.",
        [new("scope", SettingType.Text, "Only runs with the same text here count, such as the draft's name.", "")],
        [],
        [new(Seen, ArtifactKind.SeenDocuments, "Digests of the documents.")])
    {
        IsLookup = true,
        Outcomes = [Found, None],
    };
}
