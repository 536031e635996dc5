namespace FastDraft.Server.Projections.OpenTelemetry;

/// <summary>
/// A run is a trace. Its ids are those of the rows, so whichever host tells of a span, and however often, it is the same span, and a worker
/// knows its parent before anyone told of it.
/// </summary>
internal static class TraceIds
{
    /// <summary>The environment variable, and the W3C header, that hands a trace on.</summary>
    public const string Variable = "TRACEPARENT";

    public static string Trace(Guid run) => run.ToString("N");

    /// <summary>The random half of a UUIDv7.</summary>
    public static string Span(Guid row) => row.ToString("N")[16..];

    /// <summary>The parent of all that an attempt's processes tell.</summary>
    public static string Parent(Guid run, Guid attempt) => $"00-{Trace(run)}-{Span(attempt)}-01";
}
