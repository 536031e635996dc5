namespace FastDraft.Core.Lineage;

/// <summary>From was used to make To, through the named port.</summary>
public sealed record LineageEdge(string From, string To, string Port);

public enum LineageDirection
{
    /// <summary>Towards the origins: what made this?</summary>
    Upstream,

    /// <summary>Towards what was made of it: what breaks if this is withdrawn?</summary>
    Downstream,
}
