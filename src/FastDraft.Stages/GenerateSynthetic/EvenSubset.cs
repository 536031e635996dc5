namespace FastDraft.Stages.GenerateSynthetic;

/// <summary>Which of a number of things belong to a subset of a given size that lies evenly among them.</summary>
internal static class EvenSubset
{
    /// <summary>A test of an index in [0, count) that holds for exactly min(size, count) of them.</summary>
    public static Func<int, bool> Of(int count, int size) =>
        index => (index + 1) * (long)size / count > index * (long)size / count || size >= count;
}
