namespace FastDraft.Server.Projections;

internal static class RunPage
{
    /// <summary>Where a person sees a run; null where it is not known how the service is reached.</summary>
    public static Uri? Of(Uri? publicUrl, Guid runId) => publicUrl is null ? null : new Uri($"{publicUrl.AbsoluteUri.TrimEnd('/')}/runs/{runId}");
}
