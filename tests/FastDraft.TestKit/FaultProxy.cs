using System.Collections.Concurrent;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace FastDraft.TestKit;

public enum Fault
{
    None,

    /// <summary>503, and the server never hears of the request.</summary>
    Unavailable,

    /// <summary>The connection breaks, and the server never hears of the request.</summary>
    Down,

    /// <summary>The server does what was asked, and the connection breaks before the answer.</summary>
    Reset,

    /// <summary>All is well, after <see cref="FaultProxy.Lateness"/>.</summary>
    Late,

    /// <summary>Half of the answer, and then nothing for ever.</summary>
    Stall,

    /// <summary>Half of the answer, and then the end of the connection.</summary>
    Short,

    /// <summary>One bit of the body is another: of the request's body where it has one, else of the answer's.</summary>
    Flip,

    /// <summary>The answer names the object by a wrong ETag.</summary>
    WrongETag,
}

/// <summary>Stands between a client and an HTTP server and does to each request what it is told.</summary>
public sealed class FaultProxy : IAsyncDisposable
{
    private readonly WebApplication app;
    private readonly Uri target;
    private readonly HttpClient http = new(new SocketsHttpHandler { AllowAutoRedirect = false, UseProxy = false }) { Timeout = Timeout.InfiniteTimeSpan };

    private FaultProxy(WebApplication app, Uri target) => (this.app, this.target) = (app, target);

    public Uri Address => new(app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First());

    /// <summary>Asked for each request.</summary>
    public Func<HttpRequest, Fault> Choose { get; set; } = _ => Fault.None;

    public TimeSpan Lateness { get; set; } = TimeSpan.FromSeconds(5);

    /// <summary>What was asked, as <c>GET /bucket/key</c>, in order.</summary>
    public ConcurrentQueue<string> Requests { get; } = new();

    /// <summary>How often each fault was done.</summary>
    public ConcurrentDictionary<Fault, int> Done { get; } = new();

    public static async Task<FaultProxy> StartAsync(Uri target)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseUrls("http://127.0.0.1:0").ConfigureKestrel(kestrel =>
        {
            kestrel.Limits.MaxRequestBodySize = null;
            kestrel.Limits.MinResponseDataRate = null;
        });
        var app = builder.Build();
        var proxy = new FaultProxy(app, target);
        app.Run(proxy.PassAsync);
        await app.StartAsync();
        return proxy;
    }

    public async ValueTask DisposeAsync()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(1));
        await app.StopAsync(limit.Token);
        await app.DisposeAsync();
        http.Dispose();
    }

    private async Task PassAsync(HttpContext context)
    {
        Requests.Enqueue($"{context.Request.Method} {context.Request.Path}{context.Request.QueryString}");
        var fault = Choose(context.Request);
        Done.AddOrUpdate(fault, 1, (_, n) => n + 1);
        var stop = context.RequestAborted;
        try
        {
            if (fault == Fault.Unavailable)
            {
                context.Response.StatusCode = StatusCodes.Status503ServiceUnavailable;
                return;
            }

            if (fault == Fault.Down)
            {
                context.Abort();
                return;
            }

            if (fault == Fault.Late)
            {
                await Task.Delay(Lateness, stop);
            }

            using var body = new MemoryStream();
            await context.Request.Body.CopyToAsync(body, stop);
            var sent = body.ToArray();
            var flipsRequest = fault == Fault.Flip && sent.Length > 0;
            if (flipsRequest)
            {
                FlipOneBit(sent);
            }

            using var answer = await http.SendAsync(Forward(context.Request, sent), stop);
            var content = await answer.Content.ReadAsByteArrayAsync(stop);
            if (fault == Fault.Flip && !flipsRequest && content.Length > 0)
            {
                FlipOneBit(content);
            }

            if (fault == Fault.Reset)
            {
                context.Abort();
                return;
            }

            context.Response.StatusCode = (int)answer.StatusCode;
            foreach (var header in answer.Headers.Concat(answer.Content.Headers).Where(h => h.Key is not ("Transfer-Encoding" or "Connection" or "Server")))
            {
                context.Response.Headers[header.Key] = header.Key == "ETag" && fault == Fault.WrongETag ? "\"00000000000000000000000000000000\"" : header.Value.ToArray();
            }

            if (fault is Fault.Stall or Fault.Short)
            {
                await context.Response.StartAsync(stop);
                await context.Response.Body.WriteAsync(content.AsMemory(0, content.Length / 2), stop);
                await context.Response.Body.FlushAsync(stop);
                await (fault == Fault.Stall ? Task.Delay(Timeout.Infinite, stop) : Task.CompletedTask);
                context.Abort();
                return;
            }

            if (!HttpMethods.IsHead(context.Request.Method))
            {
                await context.Response.Body.WriteAsync(content, stop);
            }
        }
        catch (OperationCanceledException)
        {
            // The client went away, as it should from one that stalls.
        }
        catch (HttpRequestException)
        {
            context.Abort();
        }
    }

    private HttpRequestMessage Forward(HttpRequest request, byte[] body)
    {
        var forward = new HttpRequestMessage(new HttpMethod(request.Method), new Uri(target, request.Path.ToUriComponent() + request.QueryString.ToUriComponent()));
        if (body.Length > 0 || request.ContentLength is not null)
        {
            forward.Content = new ByteArrayContent(body);
        }

        foreach (var (name, value) in request.Headers.Where(h => h.Key is not ("Host" or "Content-Length" or "Connection" or "Transfer-Encoding" or "Expect")))
        {
            if (!forward.Headers.TryAddWithoutValidation(name, value.ToArray()))
            {
                forward.Content?.Headers.TryAddWithoutValidation(name, value.ToArray());
            }
        }

        return forward;
    }

    private static void FlipOneBit(byte[] bytes) => bytes[Random.Shared.Next(bytes.Length)] ^= (byte)(1 << Random.Shared.Next(8));
}
