using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;

namespace FastDraft.Stages.PromoteDraft;

/// <summary>Looks up which draft of a name is the champion for a target. The server answers; there is no worker.</summary>
public static class FindChampion
{
    public const string Name = "FindChampion";
    public const string Found = "Found";
    public const string None = "None";
    public const string Draft = "draft";
    public const string Evaluation = "evaluation";

    public static StageDescriptor Describe() => new(
        Name, 1, "Takes up the champion of a draft's name: the model that was promoted last for this target.",
        [
            new("draftName", SettingType.Text, "The draft's name in the registry.", Required: true),
            new("target", SettingType.Path, "Hugging Face folder of the target model.", Required: true, Content: PathContent.Model),
        ],
        [],
        [
            new(Draft, ArtifactKind.Model, "The champion's model."),
            new(Evaluation, ArtifactKind.Evaluation, "The evaluation it was promoted with."),
        ])
    {
        IsLookup = true,
        Outcomes = [Found, None],
    };
}
