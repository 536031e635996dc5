namespace FastDraft.Export;

/// <summary>What a weight is stored in. Vectors (norms) stay float32 whatever the precision: they are few and matter.</summary>
public enum WeightPrecision
{
    F32,
    F16,
    BF16,

    /// <summary>8 bits a weight; how a scale is shared is the format's own.</summary>
    Int8,

    /// <summary>4 bits a weight with a scale and a zero point for each group.</summary>
    Int4,

    /// <summary>GGUF's blocks of 32 weights of 8 bits with one scale.</summary>
    Q8_0,
}
