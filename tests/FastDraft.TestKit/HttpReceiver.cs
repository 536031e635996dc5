using System.Collections.Concurrent;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;

namespace FastDraft.TestKit;

public sealed record ReceivedCall(string Path, IReadOnlyDictionary<string, string> Headers, string Body);

/// <summary>A real HTTP server on a free port that keeps what it is sent.</summary>
public sealed class HttpReceiver : IAsyncDisposable
{
    private readonly WebApplication app;
    private int count;

    private HttpReceiver(WebApplication app) => this.app = app;

    public ConcurrentQueue<ReceivedCall> Calls { get; } = [];

    /// <summary>The status of the n-th answer, counted from 1.</summary>
    public Func<int, int> Answer { get; set; } = _ => 200;

    /// <summary>Where it says to look instead, with a status of 3xx.</summary>
    public string? Location { get; set; }

    public Uri Address => new(app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First());

    public static async Task<HttpReceiver> StartAsync()
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseUrls("http://127.0.0.1:0");
        var app = builder.Build();
        var receiver = new HttpReceiver(app);
        app.Run(async context =>
        {
            using var reader = new StreamReader(context.Request.Body);
            receiver.Calls.Enqueue(new ReceivedCall(context.Request.Path, context.Request.Headers.ToDictionary(h => h.Key, h => h.Value.ToString(), StringComparer.OrdinalIgnoreCase), await reader.ReadToEndAsync()));
            context.Response.StatusCode = receiver.Answer(Interlocked.Increment(ref receiver.count));
            if (receiver.Location is { } location)
            {
                context.Response.Headers.Location = location;
            }
        });
        await app.StartAsync();
        return receiver;
    }

    public ValueTask DisposeAsync() => app.DisposeAsync();
}
