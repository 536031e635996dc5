using System.Net;
using System.Text.Json;
using FastDraft.Core.Workflows;
using FastDraft.Persistence;
using FastDraft.Server.Definitions;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace FastDraft.Server.Web;

/// <summary>An error in the form that the designer shows as its own messages: <c>errors.GeneralErrors</c> is a list of sentences.</summary>
internal sealed record Problem(string Title, int Status, IReadOnlyDictionary<string, IReadOnlyList<string>> Errors);

/// <summary>Every error leaves as <c>application/problem+json</c>; to a person who opens an address in a browser, as a page.</summary>
internal static partial class Problems
{
    public static Task WriteAsync(HttpContext context, int status, string title, IReadOnlyList<string> errors)
    {
        context.Response.StatusCode = status;
        if (IsPerson(context.Request))
        {
            return Message(title, string.Join(' ', errors), status).ExecuteAsync(context);
        }

        return context.Response.WriteAsJsonAsync(
            new Problem(title, status, new Dictionary<string, IReadOnlyList<string>> { ["GeneralErrors"] = errors }), ApiJson.Options, "application/problem+json");
    }

    public static IResult Result(int status, params IReadOnlyList<string> errors) => Results.Json(
        new Problem(errors[0], status, new Dictionary<string, IReadOnlyList<string>> { ["GeneralErrors"] = errors }), ApiJson.Options, "application/problem+json", status);

    /// <summary>A page that says what is wrong and where to go.</summary>
    public static IResult Message(string title, string text, int status) => Results.Content(
        PageFile.Read("message.html").Replace("{{title}}", WebUtility.HtmlEncode(title), StringComparison.Ordinal).Replace("{{text}}", WebUtility.HtmlEncode(text), StringComparison.Ordinal),
        "text/html; charset=utf-8", statusCode: status);

    public static IResult NotFound(string what) => Result(StatusCodes.Status404NotFound, $"There is no {what}.");

    /// <summary>What a route throws becomes its answer; a fault of our own is logged and says no more than that.</summary>
    public static void UseProblems(this IApplicationBuilder app, ILogger logger) => app.Use(async (context, next) =>
    {
        try
        {
            await next(context);
            if (context.GetEndpoint() is null && IsPerson(context.Request) && context.Response is { StatusCode: StatusCodes.Status404NotFound, HasStarted: false })
            {
                // The console says it, with its navigation around.
                context.Request.Path = "/nothing-here";
                context.Response.StatusCode = StatusCodes.Status200OK;
                context.Request.RouteValues.Clear();
                await next(context);
                return;
            }

            if (context.Response is { StatusCode: StatusCodes.Status404NotFound or StatusCodes.Status405MethodNotAllowed, HasStarted: false, ContentLength: null, ContentType: null })
            {
                await WriteAsync(context, context.Response.StatusCode, "There is nothing at this address.", [$"{context.Request.Method} has no answer here."]);
            }
        }
        catch (Exception e) when (!context.Response.HasStarted && !context.RequestAborted.IsCancellationRequested)
        {
            switch (e)
            {
                case DefinitionRefusedException refused:
                    await WriteAsync(context, StatusOf(refused.Refusal), refused.Errors[0], refused.Errors);
                    break;
                case WorkflowFormatException format:
                    await WriteAsync(context, StatusCodes.Status422UnprocessableEntity, "This workflow cannot be read.", [format.Message]);
                    break;
                case BadHttpRequestException { StatusCode: StatusCodes.Status413PayloadTooLarge }:
                    await WriteAsync(context, StatusCodes.Status413PayloadTooLarge, "The request is too large.", [$"At most {DefinitionDocument.MaxBytes} bytes are read."]);
                    break;
                case BadHttpRequestException bad:
                    await WriteAsync(context, bad.StatusCode, "The request cannot be read.", [(bad.InnerException ?? bad).Message]);
                    break;
                case KeyReusedException reused:
                    await WriteAsync(context, StatusCodes.Status422UnprocessableEntity, "This key belongs to another request.", [reused.Message]);
                    break;
                case JsonException json:
                    await WriteAsync(context, StatusCodes.Status400BadRequest, "The request is not the JSON that this address reads.", [json.Message]);
                    break;
                case var text when PipelineDatabase.IsUnstorableText(text):
                    await WriteAsync(context, StatusCodes.Status400BadRequest, "The request cannot be read.", ["A text of the request has a NUL character, which the database cannot hold. Try: the same without it."]);
                    break;
                case var trouble when PipelineDatabase.IsTrouble(trouble):
                    RequestFailed(logger, context.Request.Method, context.Request.Path, e);
                    await WriteAsync(context, StatusCodes.Status503ServiceUnavailable, "The database does not answer.", ["The database does not answer; runs wait for it. Try again in a while."]);
                    break;
                default:
                    RequestFailed(logger, context.Request.Method, context.Request.Path, e);
                    await WriteAsync(context, StatusCodes.Status500InternalServerError, "The service made a mistake; its log says which.", ["The service made a mistake; its log says which."]);
                    break;
            }
        }
    });

    /// <summary>Whether a browser asks for something to show as a page of its own.</summary>
    private static bool IsPerson(HttpRequest request) => HttpMethods.IsGet(request.Method) && request.Headers.Accept.ToString().Contains("text/html", StringComparison.Ordinal);

    public static int StatusOf(Refusal refusal) => refusal switch
    {
        Refusal.NotFound => StatusCodes.Status404NotFound,
        Refusal.ReadOnly => StatusCodes.Status409Conflict,
        _ => StatusCodes.Status400BadRequest,
    };

    [LoggerMessage(3001, LogLevel.Error, "{Method} {Path} failed")]
    private static partial void RequestFailed(ILogger logger, string method, PathString path, Exception exception);
}
