using FastDraft.Core.Stages;
using FastDraft.Stages.AlignVocabulary;
using FastDraft.Stages.EvaluateDraft;
using FastDraft.Stages.ExportDraft;
using FastDraft.Stages.FinetuneDraft;
using FastDraft.Stages.GenerateSynthetic;
using FastDraft.Stages.IngestCorpus;
using FastDraft.Stages.PretrainDraft;
using FastDraft.Stages.PromoteDraft;

namespace FastDraft.Stages;

/// <summary>The catalog of stages: a new one is a folder and a line here. Descriptors load no tensors; instances are for workers.</summary>
public static class BuiltinStages
{
    public static IReadOnlyList<StageDescriptor> Descriptors { get; } =
    [
        IngestCorpusStage.Describe(),
        AlignVocabularyStage.Describe(),
        PretrainDraftStage.Describe(),
        GenerateSyntheticStage.Describe(),
        FinetuneDraftStage.Describe(),
        EvaluateDraftStage.Describe(),
        ExportDraftStage.Describe(),
        PromoteDraftStage.Describe(),
        FindChampion.Describe(),
        FindSeenDocuments.Describe(),
    ];

    public static IReadOnlyList<IStage> Create() =>
    [
        new IngestCorpusStage(),
        new AlignVocabularyStage(),
        new PretrainDraftStage(),
        new GenerateSyntheticStage(),
        new FinetuneDraftStage(),
        new EvaluateDraftStage(),
        new ExportDraftStage(),
        new PromoteDraftStage(),
    ];
}
