using System.Collections.Concurrent;
using FastDraft.Core.Runs;
using FastDraft.Persistence;
using FastDraft.Server;
using FastDraft.Server.Dispatch;
using FastDraft.Server.Projections;
using Microsoft.EntityFrameworkCore;
using static FastDraft.Durability.Tests.TestPipeline;
using static FastDraft.Durability.Tests.TestWorkflow;

namespace FastDraft.Durability.Tests.Projections;

public sealed class SqliteOutboxFacts() : OutboxFacts(TestDatabase.Sqlite);

public sealed class PostgreSqlOutboxFacts() : OutboxFacts(TestDatabase.PostgreSql)
{
    /// <summary>
    /// The number of an event is given when it is written and seen when its transaction commits: one that a reader has passed by number can
    /// appear later. It is delivered then.
    /// </summary>
    [Fact]
    public async Task An_event_that_commits_after_one_with_a_higher_number_is_delivered()
    {
        await using var store = await Pipeline.OpenAsync();
        await ProjectionLoop.RegisterAsync(store, "test", 0, default);
        var receiver = new Receiver();
        await using var early = store.Open();
        await using (var transaction = await early.Database.BeginTransactionAsync())
        {
            early.Drafts.Add(Draft("early"));
            await early.SaveChangesAsync();
            await using (var late = store.Open())
            {
                late.Drafts.Add(Draft("late"));
                await late.SaveChangesAsync();
            }

            await DeliverAsync(store, receiver);
            Assert.Contains("late", Assert.Single(receiver.Delivered).DataJson!, StringComparison.Ordinal);
            await transaction.CommitAsync();
        }

        await DeliverAsync(store, receiver);
        var (first, second) = (receiver.Delivered.First(), receiver.Delivered.Last());
        Assert.Contains("early", second.DataJson!, StringComparison.Ordinal);
        Assert.True(second.Id < first.Id, "The database gave the numbers in the order of the commits: nothing was shown.");
    }

    private static DraftRow Draft(string name) => new() { Id = Guid.CreateVersion7(), Name = name, Version = 1, TargetDigest = "t", ModelDigest = name };
}

public abstract class OutboxFacts(TestDatabase database) : IDisposable
{
    private readonly TestPipeline pipeline = new(database);

    private protected TestPipeline Pipeline => pipeline;

    public void Dispose()
    {
        pipeline.Dispose();
        GC.SuppressFinalize(this);
    }

    [Fact]
    public async Task Every_change_of_a_run_is_told_once_and_in_its_order()
    {
        await using var host = await pipeline.StartAsync();
        await ProjectionLoop.RegisterAsync(host.Store, "test", 0, default);
        await FinishAsync(host, MakeAndCopy(dieOnce: true));
        await FinishAsync(host, MakeAndCopy(dieOnce: true));
        var receiver = new Receiver();
        await DeliverAsync(host.Store, receiver);
        var runs = receiver.Delivered.GroupBy(e => e.RunId).Select(g => g.Select(e => e.Kind)).ToList();
        Assert.Equal(
            [
                OutboxEventKind.RunBegun, OutboxEventKind.StageStarted, OutboxEventKind.StageRetried, OutboxEventKind.StageStarted, OutboxEventKind.StageEnded,
                OutboxEventKind.StageStarted, OutboxEventKind.StageEnded, OutboxEventKind.RunEnded,
            ],
            runs[0]);
        Assert.Equal([OutboxEventKind.RunBegun, OutboxEventKind.StageCached, OutboxEventKind.StageCached, OutboxEventKind.RunEnded], runs[1]);
        Assert.Equal(12, receiver.Delivered.Select(e => e.Id).Distinct().Count());

        // Delivered is gone.
        await using var db = host.Store.Open();
        Assert.Empty(await db.OutboxEvents.ToListAsync());
        Assert.Empty(await db.OutboxDeliveries.ToListAsync());
        var view = Assert.Single(await new ProjectionStore(host.Store, TimeProvider.System).ListAsync());
        Assert.Equal((12L, 0, 0, null, null), (view.Delivered, view.Waiting, view.Quarantined, view.Problem, view.Host));
    }

    [Fact]
    public async Task A_receiver_that_is_away_holds_back_nothing_but_itself()
    {
        await using var host = await pipeline.StartAsync();
        await ProjectionLoop.RegisterAsync(host.Store, "away", 0, default);
        await ProjectionLoop.RegisterAsync(host.Store, "there", 0, default);
        var (away, there) = (new Receiver { Name = "away", Fault = _ => new DeliveryException(DeliveryFault.Away, "Nobody is at home.") }, new Receiver { Name = "there" });
        Assert.Equal(RunState.Succeeded, (await FinishAsync(host, MakeAndCopy())).State);
        await DeliverAsync(host.Store, away);
        await DeliverAsync(host.Store, there);
        Assert.Equal(6, there.Delivered.Count);
        Assert.Equal(1, away.Tries);
        var waiting = (await new ProjectionStore(host.Store, TimeProvider.System).ListAsync()).Single(p => p.Name == "away");
        Assert.Equal((6, 0, "Nobody is at home."), (waiting.Waiting, waiting.Quarantined, waiting.Problem));
        Assert.NotNull(waiting.RetryAt);

        // Back again, everything is told; asked for at once, it does not wait for its time.
        away.Fault = _ => null;
        Assert.Equal(6, await new ProjectionStore(host.Store, TimeProvider.System).RetryAsync("away"));
        await DeliverAsync(host.Store, away);
        Assert.Equal(there.Delivered.Select(e => e.Id), away.Delivered.Select(e => e.Id));
        Assert.Null((await new ProjectionStore(host.Store, TimeProvider.System).ListAsync()).Single(p => p.Name == "away").Problem);
    }

    [Fact]
    public async Task What_a_receiver_refuses_or_fails_at_too_often_is_put_aside_and_seen_and_the_rest_goes_on()
    {
        await using var host = await pipeline.StartAsync();
        await ProjectionLoop.RegisterAsync(host.Store, "test", 0, default);
        await FinishAsync(host, MakeAndCopy());
        var receiver = new Receiver
        {
            Fault = e => e.Kind switch
            {
                OutboxEventKind.RunBegun => new DeliveryException(DeliveryFault.Refused, "Not this."),
                OutboxEventKind.RunEnded => new InvalidOperationException("A fault of ours."),
                _ => null,
            },
        };
        await DeliverAsync(host.Store, receiver, maxTries: 1);
        Assert.Equal(4, receiver.Delivered.Count);
        var view = Assert.Single(await new ProjectionStore(host.Store, TimeProvider.System).ListAsync());
        Assert.Equal([(OutboxEventKind.RunBegun, "Not this."), (OutboxEventKind.RunEnded, "InvalidOperationException: A fault of ours.")], view.Refused.Select(r => (r.Kind, r.Problem)));
        Assert.Equal((0, 2, 0.0), (view.Waiting, view.Quarantined, view.LagSeconds));

        receiver.Fault = _ => null;
        await new ProjectionStore(host.Store, TimeProvider.System).RetryAsync("test");
        await DeliverAsync(host.Store, receiver);
        Assert.Equal(6, receiver.Delivered.Count);
    }

    [Fact]
    public async Task A_failing_event_is_tried_again_later_and_only_what_belongs_to_it_waits_for_it()
    {
        await using var host = await pipeline.StartAsync();
        await ProjectionLoop.RegisterAsync(host.Store, "test", 0, default);
        var first = await FinishAsync(host, Sequence(Activity("make", "Make", ("number", Literal("Int64", 1)))));
        var second = await FinishAsync(host, Sequence(Activity("make", "Make", ("number", Literal("Int64", 2)))));
        var receiver = new Receiver { Fault = e => e.RunId == first.Id && e.Kind == OutboxEventKind.StageStarted ? new DeliveryException(DeliveryFault.Failed, "Not now.") : null };
        await DeliverAsync(host.Store, receiver);
        Assert.Single(receiver.Delivered, e => e.RunId == first.Id);
        Assert.Equal(4, receiver.Delivered.Count(e => e.RunId == second.Id));
    }

    /// <summary>Rows that an administrator, a crash or another version may have left: 1,000 of them beside those of a run.</summary>
    [Fact]
    public async Task Among_a_thousand_spoilt_events_the_good_ones_arrive_and_the_bad_ones_are_seen()
    {
        var file = pipeline.PathOf("events.jsonl");
        var options = pipeline.Options() with { Projections = new ProjectionOptions { OpenLineage = file, MaxTries = 1 } };
        await using (var host = await PipelineHost.StartAsync(options))
        {
            var run = await FinishAsync(host, MakeAndCopy());
            var random = new Random(1);
            string[] kinds = [OutboxEventKind.RunBegun, OutboxEventKind.RunEnded, OutboxEventKind.StageStarted, OutboxEventKind.StageCached, OutboxEventKind.StageEnded];
            await using var db = host.Store.Open();
            for (var i = 0; i < 1000; i++)
            {
                var spoilt = new OutboxEventRow
                {
                    Kind = random.Next(3) == 0 ? Garbage(random) : kinds[random.Next(kinds.Length)],
                    RunId = random.Next(2) == 0 ? null : Guid.CreateVersion7(),
                    StageRunId = random.Next(2) == 0 ? null : run.Stages[0].Id,
                    DataJson = random.Next(2) == 0 ? null : Garbage(random),
                    At = random.Next(2) == 0 ? 0 : long.MaxValue,
                };
                spoilt.Deliveries.Add(new OutboxDeliveryRow { Projection = "openlineage", Stream = Garbage(random) });
                db.OutboxEvents.Add(spoilt);
            }

            await db.SaveChangesAsync();
            await FinishAsync(host, MakeAndCopy(number: 2));
        }

        await using var next = await PipelineHost.StartAsync(options);
        var projections = new ProjectionStore(next.Store, TimeProvider.System);
        await UntilAsync(async () => (await projections.ListAsync())[0].Waiting == 0, "all were tried");
        var view = (await projections.ListAsync())[0];
        Assert.Equal(1000, view.Quarantined);
        Assert.NotEmpty(view.Refused);
        Assert.All(view.Refused, r => Assert.False(string.IsNullOrWhiteSpace(r.Problem)));
        Assert.Equal(2 * 6, File.ReadLines(file).Count());
        Assert.Equal(RunState.Succeeded, (await FinishAsync(next, MakeAndCopy(number: 3))).State);
    }

    [Fact]
    public async Task One_host_delivers_and_when_it_dies_another_goes_on()
    {
        var file = pipeline.PathOf("events.jsonl");
        var gate = pipeline.PathOf("gate");
        using var first = pipeline.StartHostProcess(MakeAndCopy(waitFor: gate), environment: ("FASTDRAFT_OPENLINEAGE", file));
        await UntilAsync(() => Task.FromResult(File.Exists(file) && File.ReadLines(file).Count() == 2), "the first host told of the begin");
        await using var second = await PipelineHost.StartAsync(pipeline.Options() with { Projections = new ProjectionOptions { OpenLineage = file } });
        var projections = new ProjectionStore(second.Store, TimeProvider.System);
        var holder = (await projections.ListAsync())[0].Host;
        Assert.NotNull(holder);
        first.Kill(entireProcessTree: true);
        await first.WaitForExitAsync();
        await File.WriteAllTextAsync(gate, "");
        var run = await WaitAsync(second, (await second.Queries.ListRunsAsync())[0].Id);
        Assert.Equal(RunState.Succeeded, run.State);
        await UntilAsync(async () => (await projections.ListAsync())[0] is { Waiting: 0 } view && view.Host != holder, "the second host told of the end");
        Assert.Equal(6, File.ReadLines(file).Distinct().Count());
    }

    /// <summary>One pass over everything that is due, as a host makes it.</summary>
    private protected async Task DeliverAsync(PipelineStore store, Receiver receiver, int maxTries = 8)
    {
        var options = pipeline.Options() with { Projections = new ProjectionOptions { MaxTries = maxTries } };
        using var owner = new LeaseOwner(store.DataFolder);
        using var drain = new CancellationTokenSource();
        await drain.CancelAsync();
        await new ProjectionLoop(receiver, store, options, owner).RunAsync(drain.Token, CancellationToken.None);
    }

    private static string Garbage(Random random) => new([.. Enumerable.Range(0, random.Next(1, 40)).Select(_ => (char)random.Next(32, 0x2000))]);

    private protected sealed class Receiver : IProjection
    {
        public string Name { get; init; } = "test";

        public Func<OutboxEventRow, Exception?> Fault { get; set; } = _ => null;

        public ConcurrentQueue<OutboxEventRow> Delivered { get; } = [];

        public int Tries { get; private set; }

        public void Dispose()
        {
        }

        public Task DeliverAsync(OutboxEventRow told, CancellationToken ct)
        {
            Tries++;
            if (Fault(told) is { } fault)
            {
                throw fault;
            }

            Delivered.Enqueue(told);
            return Task.CompletedTask;
        }
    }
}
