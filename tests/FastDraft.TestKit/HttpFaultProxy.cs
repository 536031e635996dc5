using System.Collections.Concurrent;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace FastDraft.TestKit;

/// <summary>Stands before a real HTTP server and lets through, refuses or delays what is sent to it.</summary>
public sealed class HttpFaultProxy : IAsyncDisposable
{
    private readonly WebApplication app;
    private readonly HttpClient http = new(new SocketsHttpHandler { AllowAutoRedirect = false }) { Timeout = Timeout.InfiniteTimeSpan };

    private HttpFaultProxy(WebApplication app) => this.app = app;

    /// <summary>Breaks every connection off before it is answered.</summary>
    public bool IsDown { get; set; }

    /// <summary>How long each call waits before it is passed on.</summary>
    public TimeSpan Delay { get; set; }

    /// <summary>Passes the call on and then breaks off instead of answering, where it says so: the server has done it, the caller cannot know.</summary>
    public Func<string, bool> LosesAnswer { get; set; } = _ => false;

    /// <summary>Method and path of what came.</summary>
    public ConcurrentQueue<string> Calls { get; } = [];

    public Uri Address => new(app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.First());

    public static async Task<HttpFaultProxy> StartAsync(Uri target)
    {
        var builder = WebApplication.CreateEmptyBuilder(new WebApplicationOptions());
        builder.WebHost.UseKestrelCore().UseUrls("http://127.0.0.1:0");
        var app = builder.Build();
        var proxy = new HttpFaultProxy(app);
        app.Run(context => proxy.PassAsync(context, target));
        await app.StartAsync();
        return proxy;
    }

    public async ValueTask DisposeAsync()
    {
        await app.DisposeAsync();
        http.Dispose();
    }

    private async Task PassAsync(HttpContext context, Uri target)
    {
        var call = $"{context.Request.Method} {context.Request.Path}";
        Calls.Enqueue(call);
        if (IsDown)
        {
            context.Abort();
            return;
        }

        try
        {
            await Task.Delay(Delay, context.RequestAborted);
            using var request = new HttpRequestMessage(new HttpMethod(context.Request.Method), new Uri(target, context.Request.Path + context.Request.QueryString));
            if (context.Request.ContentLength > 0 || context.Request.Headers.TransferEncoding.Count > 0)
            {
                request.Content = new StreamContent(context.Request.Body);
                request.Content.Headers.TryAddWithoutValidation("Content-Type", context.Request.ContentType);
                request.Content.Headers.ContentLength = context.Request.ContentLength;
            }

            using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, context.RequestAborted);
            if (LosesAnswer(call))
            {
                context.Abort();
                return;
            }

            context.Response.StatusCode = (int)response.StatusCode;
            context.Response.ContentType = response.Content.Headers.ContentType?.ToString();
            await response.Content.CopyToAsync(context.Response.Body, context.RequestAborted);
        }
        catch (OperationCanceledException)
        {
            // The caller did not wait.
        }
    }
}
