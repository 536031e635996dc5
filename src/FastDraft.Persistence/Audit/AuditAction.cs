namespace FastDraft.Persistence.Audit;

/// <summary>Every act that the audit knows. What stands before the dot is the kind of the object.</summary>
public static class AuditAction
{
    public const string RunSubmitted = "run.submitted";
    public const string RunRetried = "run.retried";
    public const string RunCancelled = "run.cancelled";
    public const string RunDeleted = "run.deleted";
    public const string DefinitionSaved = "definition.saved";
    public const string DefinitionImported = "definition.imported";
    public const string DefinitionPublished = "definition.published";
    public const string DefinitionRetracted = "definition.retracted";
    public const string DefinitionDeleted = "definition.deleted";
    public const string ScheduleCreated = "schedule.created";
    public const string ScheduleChanged = "schedule.changed";
    public const string SchedulePaused = "schedule.paused";
    public const string ScheduleResumed = "schedule.resumed";
    public const string ScheduleBackfilled = "schedule.backfilled";
    public const string ScheduleDeleted = "schedule.deleted";
    public const string GateApproved = "gate.approved";
    public const string GateRejected = "gate.rejected";
    public const string DraftAliasMoved = "draft.alias-moved";
    public const string EventPublished = "event.published";
    public const string ArtifactPinned = "artifact.pinned";
    public const string ArtifactUnpinned = "artifact.unpinned";
    public const string ArtifactEvicted = "artifact.evicted";
    public const string ArtifactCollected = "artifact.collected";
    public const string ArtifactExported = "artifact.exported";
    public const string ProjectionRetried = "projection.retried";
    public const string ProjectionForgotten = "projection.forgotten";
    public const string CacheEvicted = "cache.evicted";
    public const string TokenCreated = "token.created";
    public const string TokenRevoked = "token.revoked";
    public const string SessionBegun = "session.begun";
    public const string SessionEnded = "session.ended";
}
