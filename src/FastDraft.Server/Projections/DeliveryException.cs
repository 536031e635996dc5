using System.Net;

namespace FastDraft.Server.Projections;

internal enum DeliveryFault
{
    /// <summary>The receiver cannot be reached or takes nothing at present, whatever is sent: everything waits.</summary>
    Away,

    /// <summary>This event did not get through and others may: it is tried some more times.</summary>
    Failed,

    /// <summary>The receiver will never take this event.</summary>
    Refused,
}

/// <param name="retryAfter">How long the receiver asks to be left alone.</param>
internal class DeliveryException(DeliveryFault fault, string message, TimeSpan? retryAfter = null, Exception? inner = null) : Exception(message, inner)
{
    public DeliveryFault Fault { get; } = fault;

    public TimeSpan? RetryAfter { get; } = retryAfter;

    /// <summary>
    /// What an answer says about what was sent. An address, a token or a server may be mended, and then what was sent is welcome; a
    /// payload that is wrong stays wrong.
    /// </summary>
    public static DeliveryFault Judge(HttpStatusCode status) => (int)status switch
    {
        < 400 or 401 or 403 or 404 or 405 or 407 or 408 or 425 or 429 or 502 or 503 or 504 => DeliveryFault.Away,
        >= 500 => DeliveryFault.Failed,
        _ => DeliveryFault.Refused,
    };

    /// <summary>Sends a request and maps what hinders it. The answer is the caller's to dispose, whatever its status.</summary>
    public static async Task<HttpResponseMessage> SendAsync(HttpClient http, HttpRequestMessage request, CancellationToken ct)
    {
        try
        {
            return await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, ct);
        }
        catch (OperationCanceledException e) when (!ct.IsCancellationRequested)
        {
            throw new DeliveryException(DeliveryFault.Away, $"{Place(request)} did not answer within {http.Timeout.TotalSeconds:F0} s.", inner: e);
        }
        catch (HttpRequestException e)
        {
            throw e.InnerException as DeliveryException ?? new DeliveryException(DeliveryFault.Away, $"{Place(request)}: {e.InnerException?.Message ?? e.Message}", inner: e);
        }
        catch (IOException e)
        {
            throw new DeliveryException(DeliveryFault.Away, $"{Place(request)}: {e.Message}", inner: e);
        }
    }

    /// <exception cref="DeliveryException">The answer is no success.</exception>
    public static async Task EnsureTakenAsync(HttpResponseMessage response, CancellationToken ct)
    {
        if (!response.IsSuccessStatusCode)
        {
            var text = await TextAsync(response, ct);
            throw new DeliveryException(
                Judge(response.StatusCode), $"{Place(response.RequestMessage!)} answered {(int)response.StatusCode} {response.ReasonPhrase}{(text.Length > 0 ? ": " + text : "")}", Wait(response));
        }
    }

    public static TimeSpan? Wait(HttpResponseMessage response) => response.Headers.RetryAfter?.Delta;

    /// <summary>The beginning of an answer's body, for a person.</summary>
    public static async Task<string> TextAsync(HttpResponseMessage response, CancellationToken ct)
    {
        const int MaxCharacters = 500;
        try
        {
            using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(ct));
            var text = new char[MaxCharacters];
            var length = await reader.ReadBlockAsync(text, ct);
            return new string(text, 0, length).ReplaceLineEndings(" ").Trim();
        }
        catch (Exception e) when (e is IOException or HttpRequestException)
        {
            return "";
        }
    }

    /// <summary>Method and address, without what may be secret in it.</summary>
    public static string Place(HttpRequestMessage request) => $"{request.Method} {request.RequestUri!.GetComponents(UriComponents.SchemeAndServer | UriComponents.Path, UriFormat.UriEscaped)}";
}
