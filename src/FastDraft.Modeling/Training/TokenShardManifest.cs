using System.Text.Json;
using System.Text.Json.Serialization;

namespace FastDraft.Modeling.Training;

internal sealed record TokenShardManifest(
    string Format, string Dtype, string TokenizerDigest, int VocabularySize, SortedDictionary<string, TokenShardManifest.Entry> Splits)
{
    public const string CurrentFormat = "fastdraft-token-shards/1";
    public const string FileName = "manifest.json";

    public static JsonSerializerOptions Json { get; } = new(JsonSerializerDefaults.Web)
    {
        WriteIndented = true,
        RespectNullableAnnotations = true,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Skip,
    };

    internal sealed record Entry(long NumTokens, long NumDocuments, IReadOnlyList<string> Shards);
}
