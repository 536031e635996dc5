using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using FastDraft.Persistence;
using FastDraft.Persistence.Audit;
using Microsoft.AspNetCore.Http;
using Microsoft.EntityFrameworkCore;

namespace FastDraft.Server.Web;

/// <summary>A key came with another request before.</summary>
public sealed class KeyReusedException(string key) : Exception($"The idempotency key '{key}' was used for another request. A key is for one request and its repetitions.");

/// <summary>
/// The header <c>Idempotency-Key</c> of a request that creates something: whoever got no answer asks again with the same key and learns what
/// the first request made. Keys are of one caller, and over after a day. A request that was refused has made nothing and keeps no key.
/// </summary>
public sealed record IdempotencyKey(string Actor, string Key, string RequestDigest)
{
    public const string Header = "Idempotency-Key";

    private const int MaxLength = 200;

    private static readonly TimeSpan Lifetime = TimeSpan.FromDays(1);

    /// <summary>Null where the request has no key.</summary>
    /// <exception cref="BadHttpRequestException">It is no key.</exception>
    public static async ValueTask<IdempotencyKey?> BindAsync(HttpContext context)
    {
        if (context.Request.Headers[Header] is not { Count: > 0 } given)
        {
            return null;
        }

        if (given is not [{ Length: > 0 and <= MaxLength } key] || key.Any(c => c is < '!' or > '~'))
        {
            throw new BadHttpRequestException($"{Header} is one text of at most {MaxLength} visible characters, such as a UUID.");
        }

        context.Request.EnableBuffering(bufferThreshold: int.MaxValue);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.UTF8.GetBytes($"{context.Request.Method} {context.Request.Path}{context.Request.QueryString}\n"));
        var buffer = new byte[1 << 14];
        int read;
        while ((read = await context.Request.Body.ReadAsync(buffer, context.RequestAborted)) > 0)
        {
            hash.AppendData(buffer, 0, read);
        }

        context.Request.Body.Position = 0;
        return new IdempotencyKey(Persistence.Audit.Actor.Current, key, Convert.ToHexStringLower(hash.GetHashAndReset()));
    }

    /// <summary>
    /// Does what a request asks for, in the present transaction; or, where its key is known, nothing, and answers as before. Of two requests
    /// with one key the second waits for the first, or loses to it and looks again.
    /// </summary>
    /// <exception cref="KeyReusedException">The key was used for another request.</exception>
    internal static async Task<T> OnceAsync<T>(IdempotencyKey? key, PipelineDbContext db, long now, Func<Task<T>> act, CancellationToken ct)
    {
        if (key is null)
        {
            return await act();
        }

        var oldest = now - (long)Lifetime.TotalMilliseconds;
        await db.IdempotencyKeys.Where(k => k.CreatedAt < oldest).ExecuteDeleteAsync(ct);
        if (await db.IdempotencyKeys.AsNoTracking().SingleOrDefaultAsync(k => k.Actor == key.Actor && k.Key == key.Key, ct) is { } known)
        {
            return known.RequestDigest == key.RequestDigest ? JsonSerializer.Deserialize<T>(known.AnswerJson)! : throw new KeyReusedException(key.Key);
        }

        var answer = await act();
        db.IdempotencyKeys.Add(new IdempotencyKeyRow { Actor = key.Actor, Key = key.Key, RequestDigest = key.RequestDigest, AnswerJson = JsonSerializer.Serialize(answer), CreatedAt = now });
        return answer;
    }
}
