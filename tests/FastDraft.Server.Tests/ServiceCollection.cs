namespace FastDraft.Server.Tests;

/// <summary>One service for all facts of its API: a process has one, since Hangfire keeps its logging in statics.</summary>
[CollectionDefinition(Name)]
public sealed class ServiceCollection : ICollectionFixture<RunningService>
{
    public const string Name = "service";
}
