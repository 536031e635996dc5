using FastDraft.Core.Stages;
using FastDraft.Stages.IngestCorpus;

namespace FastDraft.Stages.Tests.IngestCorpus;

public sealed class IngestCorpusStageFacts
{
    [Fact]
    public void A_source_that_matches_nothing_is_a_data_failure_that_names_it()
    {
        var error = Assert.Throws<StageFailureException>(() => CorpusSources.Expand("no-such-folder/*.txt"));
        Assert.Equal(FailureKind.Data, error.Kind);
        Assert.Contains("no-such-folder/*.txt", error.Message, StringComparison.Ordinal);
    }
}
