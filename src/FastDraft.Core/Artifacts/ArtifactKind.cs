namespace FastDraft.Core.Artifacts;

/// <summary>What an artifact's bytes are. Ports are typed by it, so that a wrong wiring is found before anything runs.</summary>
public static class ArtifactKind
{
    public const string Corpus = "corpus";
    public const string Tokenizer = "tokenizer";
    public const string VocabularyMap = "vocab-map";
    public const string TokenShards = "token-shards";
    public const string Model = "model";
    public const string Checkpoint = "checkpoint";
    public const string SyntheticCorpus = "synthetic-corpus";
    public const string Evaluation = "evaluation";
    public const string Onnx = "onnx";
    public const string OpenVinoIr = "openvino-ir";
    public const string Gguf = "gguf";
    public const string SeenDocuments = "seen-documents";
    public const string Promotion = "promotion";

    public static IReadOnlyList<string> All { get; } =
        [Corpus, Tokenizer, VocabularyMap, TokenShards, Model, Checkpoint, SyntheticCorpus, Evaluation, Onnx, OpenVinoIr, Gguf, SeenDocuments, Promotion];
}
