using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Security.Cryptography;
using System.Text;
using System.Xml;
using System.Xml.Linq;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;
using Minio;
using Minio.DataModel.Args;
using Minio.Exceptions;

namespace FastDraft.Storage.S3;

/// <summary>What the bucket says about an object.</summary>
internal sealed record S3Object(string Key, long Length, string ETag, DateTimeOffset Modified);

/// <summary>There is no such object.</summary>
internal sealed class BlobMissingException(string key) : Exception($"'{key}' is not in the bucket.");

/// <summary>The object has other bytes than its name says, twice the same: they are so at rest.</summary>
internal sealed class BlobDamagedException(Digest expected, Digest found) : Exception($"expected {expected}, found {found}.");

/// <summary>
/// One bucket. The SDK lists, deletes and signs links; blobs go by requests of our own, because the SDK holds a part in memory, sends
/// parts one after another, leaves an upload that failed behind, and hands an error's text to the reader of a blob
/// (docs/adr/0010-object-store.md).
/// </summary>
internal sealed class S3Client : IDisposable
{
    private readonly S3Settings settings;
    private readonly TimeProvider clock;
    private readonly S3Tries tries;
    private readonly HttpClient http;
    private readonly HttpClient sdkHttp;
    private readonly IMinioClient sdk;
    private readonly SemaphoreSlim sending;

    public S3Client(S3Settings settings, TimeProvider clock)
    {
        (this.settings, this.clock) = (settings, clock);
        tries = new S3Tries(settings);
        sending = new SemaphoreSlim(settings.MaxParallel);
        var sockets = new SocketsHttpHandler { ConnectTimeout = settings.MaxStill, PooledConnectionLifetime = TimeSpan.FromMinutes(5), AllowAutoRedirect = false };
        http = new HttpClient(sockets, disposeHandler: false) { Timeout = Timeout.InfiniteTimeSpan };
        sdkHttp = new HttpClient(new S3Transport(sockets, tries)) { Timeout = Timeout.InfiniteTimeSpan };
        sdk = new MinioClient().WithEndpoint(settings.Endpoint.Authority).WithSSL(settings.Endpoint.Scheme == Uri.UriSchemeHttps).WithRegion(settings.Region)
            .WithCredentials(settings.AccessKey, settings.SecretKey).WithHttpClient(sdkHttp).Build();
    }

    public void Dispose()
    {
        sdk.Dispose();
        sdkHttp.Dispose();
        http.Dispose();
        sending.Dispose();
    }

    /// <summary>Null: there is no such object.</summary>
    public Task<S3Object?> StatAsync(string key, CancellationToken cancellationToken) => tries.RunAsync<S3Object?>($"look at '{key}'", async stillness =>
    {
        using var request = Request(HttpMethod.Head, key, "", S3Signature.EmptyBody, null);
        using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stillness.Token);
        if (response.StatusCode == HttpStatusCode.NotFound)
        {
            return null;
        }

        await ThrowIfRefusedAsync(response, key, "look at", stillness);
        return new S3Object(
            key, response.Content.Headers.ContentLength ?? -1, response.Headers.TryGetValues("ETag", out var etag) ? etag.First() : "", response.Content.Headers.LastModified ?? clock.GetUtcNow());
    }, cancellationToken);

    /// <summary>Every object below a prefix; a page that cannot be had ends it with an exception, never early.</summary>
    public async IAsyncEnumerable<S3Object> ListAsync(string prefix, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await using var items = sdk.ListObjectsEnumAsync(new ListObjectsArgs().WithBucket(settings.Bucket).WithPrefix(prefix).WithRecursive(true), cancellationToken).GetAsyncEnumerator(cancellationToken);
        while (await NextAsync())
        {
            var item = items.Current;
            yield return new S3Object(item.Key, (long)item.Size, item.ETag, DateTimeOffset.Parse(item.LastModified, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal));
        }

        async Task<bool> NextAsync()
        {
            try
            {
                return await items.MoveNextAsync();
            }
            catch (Exception e) when (e is MinioException or XmlException)
            {
                throw Refused($"list '{prefix}'", e);
            }
        }
    }

    public async Task DeleteAsync(string key, CancellationToken cancellationToken)
    {
        try
        {
            await sdk.RemoveObjectAsync(new RemoveObjectArgs().WithBucket(settings.Bucket).WithObject(key), cancellationToken);
        }
        catch (ObjectNotFoundException)
        {
            // Deleted already: that is what was asked for.
        }
        catch (MinioException e)
        {
            throw Refused($"delete '{key}'", e);
        }
    }

    /// <summary>An address from which anyone who has it can read the object until it expires. Asks the server nothing.</summary>
    public async Task<Uri> LinkAsync(string key, TimeSpan valid) =>
        new(await sdk.PresignedGetObjectAsync(new PresignedGetObjectArgs().WithBucket(settings.Bucket).WithObject(key).WithExpiry((int)valid.TotalSeconds)));

    /// <summary>
    /// Copies an object's bytes into <paramref name="target"/>, which has them whole when this returns. A connection that breaks is taken
    /// up where it broke; bytes that are not those of the digest are read again from the start.
    /// </summary>
    /// <exception cref="BlobMissingException" />
    /// <exception cref="BlobDamagedException" />
    public async Task ReadAsync(string key, Digest digest, Stream target, CancellationToken cancellationToken)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var buffer = new byte[128 << 10];
        long received = 0;
        Digest? wrong = null;
        await tries.RunAsync($"read '{key}'", async stillness =>
        {
            using var request = Request(HttpMethod.Get, key, "", S3Signature.EmptyBody, null);
            request.Headers.Range = received > 0 ? new RangeHeaderValue(received, null) : null;
            using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stillness.Token);
            await ThrowIfRefusedAsync(response, key, "read", stillness);
            if (received > 0 && response.StatusCode != HttpStatusCode.PartialContent)
            {
                Restart();
            }

            await using var body = await response.Content.ReadAsStreamAsync(stillness.Token);
            for (int read; (read = await NextAsync(body, stillness)) > 0;)
            {
                hash.AppendData(buffer, 0, read);
                await target.WriteAsync(buffer.AsMemory(0, read), cancellationToken);
                received += read;
            }

            var found = Digest.FromHash(hash.GetHashAndReset());
            if (found == digest)
            {
                return true;
            }

            Restart();
            if (found == wrong)
            {
                throw new BlobDamagedException(digest, found);
            }

            wrong = found;
            throw new TransientException($"what came is not what its name says: expected {digest}, found {found}.");
        }, cancellationToken);

        async Task<int> NextAsync(Stream body, Stillness stillness)
        {
            try
            {
                var read = await body.ReadAsync(buffer, stillness.Token);
                stillness.Moved();
                return read;
            }
            catch (IOException e)
            {
                throw new TransientException("the connection broke: " + e.Message, e);
            }
        }

        void Restart()
        {
            hash.GetHashAndReset();
            target.SetLength(0);
            target.Position = 0;
            received = 0;
        }
    }

    /// <summary>Stores a file under the key unless it is there already. The object appears whole, when its last byte is there, or not at all.</summary>
    public async Task PutAsync(string key, BlobFile file, CancellationToken cancellationToken)
    {
        if (await IsStoredAsync(key, file, cancellationToken))
        {
            return;
        }

        if (!file.IsMultipart)
        {
            await SendAsync(key, "", file, file.Parts[0], cancellationToken);
            return;
        }

        var upload = await CreateUploadAsync(key, cancellationToken);
        try
        {
            var etags = new string[file.Parts.Count];
            await Parallel.ForAsync(0, etags.Length, new ParallelOptions { MaxDegreeOfParallelism = settings.MaxParallel, CancellationToken = cancellationToken }, async (i, token) =>
                etags[i] = await SendAsync(key, string.Create(CultureInfo.InvariantCulture, $"partNumber={i + 1}&uploadId={Uri.EscapeDataString(upload)}"), file, file.Parts[i], token));
            await CompleteAsync(key, upload, etags, file, cancellationToken);
        }
        catch
        {
            // Nobody sees the parts, but they are stored: what this cannot remove, the collection of garbage does.
            await AbortQuietlyAsync(key, upload);
            throw;
        }
    }

    /// <summary>Ends uploads that began before the given instant and were never completed, so that their parts are freed. How many.</summary>
    public async Task<int> AbortUploadsAsync(string prefix, DateTimeOffset before, CancellationToken cancellationToken)
    {
        var aborted = 0;
        try
        {
            await foreach (var upload in sdk.ListIncompleteUploadsEnumAsync(new ListIncompleteUploadsArgs().WithBucket(settings.Bucket).WithPrefix(prefix).WithRecursive(true), cancellationToken))
            {
                if (DateTimeOffset.Parse(upload.Initiated, CultureInfo.InvariantCulture, DateTimeStyles.AssumeUniversal) < before)
                {
                    await AbortQuietlyAsync(upload.Key, upload.UploadId);
                    aborted++;
                }
            }
        }
        catch (MinioException e)
        {
            throw Refused($"list the unfinished uploads of '{prefix}'", e);
        }

        return aborted;
    }

    /// <summary>How long the server takes to answer, and by how much its clock is ahead of this machine's; requests are refused from 15 minutes on.</summary>
    public Task<(TimeSpan RoundTrip, TimeSpan Skew)> ProbeAsync(CancellationToken cancellationToken) => tries.RunAsync("list it", async stillness =>
    {
        var (began, now) = (clock.GetTimestamp(), clock.GetUtcNow());
        using var request = Request(HttpMethod.Get, "", "list-type=2&max-keys=1", S3Signature.EmptyBody, null);
        using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stillness.Token);
        var roundTrip = clock.GetElapsedTime(began);
        await ThrowIfRefusedAsync(response, "", "list", stillness);
        return (roundTrip, response.Headers.Date is { } date ? date - (now + (roundTrip / 2)) : TimeSpan.Zero);
    }, cancellationToken);

    private async Task<bool> IsStoredAsync(string key, BlobFile file, CancellationToken cancellationToken) =>
        await StatAsync(key, cancellationToken) is { } there && there.Length == file.Length && there.ETag.Trim('"') == file.ExpectedETag;

    /// <summary>One object or one part of one. The ETag that the server gave it.</summary>
    private async Task<string> SendAsync(string key, string query, BlobFile file, BlobPart part, CancellationToken cancellationToken)
    {
        await sending.WaitAsync(cancellationToken);
        try
        {
            return await tries.RunAsync($"store '{key}'", async stillness =>
            {
                using var request = Request(HttpMethod.Put, key, query, part.Sha256Hex, new FilePartContent(file.Path, part, stillness.Moved));
                using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stillness.Token);
                await ThrowIfRefusedAsync(response, key, "store", stillness);
                var etag = response.Headers.TryGetValues("ETag", out var values) ? values.First() : throw new TransientException("it did not say what it stored.");

                // A server that encrypts with a managed key names objects by something else than their MD5.
                var isMd5 = !response.Headers.TryGetValues("x-amz-server-side-encryption", out var encryption) || encryption.First() == "AES256";
                return !isMd5 || etag.Trim('"') == Convert.ToHexStringLower(part.Md5) ? etag : throw new TransientException($"it says that it stored other bytes than were sent (ETag {etag}).");
            }, cancellationToken);
        }
        finally
        {
            sending.Release();
        }
    }

    private Task<string> CreateUploadAsync(string key, CancellationToken cancellationToken) => tries.RunAsync($"begin to store '{key}'", async stillness =>
    {
        using var request = Request(HttpMethod.Post, key, "uploads=", S3Signature.EmptyBody, null);
        using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stillness.Token);
        await ThrowIfRefusedAsync(response, key, "begin to store", stillness);
        return Element(await S3Transport.ReadAsync(response, stillness), "UploadId") ?? throw new TransientException("it gave the upload no id.");
    }, cancellationToken);

    private Task<bool> CompleteAsync(string key, string upload, string[] etags, BlobFile file, CancellationToken cancellationToken)
    {
        var parts = etags.Select((etag, i) => new XElement("Part", new XElement("PartNumber", i + 1), new XElement("ETag", etag)));
        var body = Encoding.UTF8.GetBytes(new XElement("CompleteMultipartUpload", parts).ToString(SaveOptions.DisableFormatting));
        return tries.RunAsync($"finish '{key}'", async stillness =>
        {
            using var request = Request(HttpMethod.Post, key, "uploadId=" + Uri.EscapeDataString(upload), Convert.ToHexStringLower(SHA256.HashData(body)), new ByteArrayContent(body));
            using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stillness.Token);
            if (response.StatusCode == HttpStatusCode.NotFound && await IsStoredAsync(key, file, stillness.Token))
            {
                // An earlier try did it, and its answer was lost.
                return true;
            }

            await ThrowIfRefusedAsync(response, key, "finish", stillness);

            // The status is sent before the work is done, so a failure may come as 200 with an error in the body.
            return Element(await S3Transport.ReadAsync(response, stillness), "ETag") is { } etag && (etag.Trim('"') == file.ExpectedETag || await IsStoredAsync(key, file, stillness.Token) || !IsMd5(etag))
                ? true
                : throw new TransientException("it could not put the parts together.");
        }, cancellationToken);
    }

    // Of parts, with their number behind it; anything else is a name of the server's own.
    private static bool IsMd5(string etag) => etag.Trim('"').Split('-') is [{ Length: 32 } md5, _] && md5.All(char.IsAsciiHexDigitLower);

    private async Task AbortQuietlyAsync(string key, string upload)
    {
        try
        {
            await tries.RunAsync($"give up '{key}'", async stillness =>
            {
                using var request = Request(HttpMethod.Delete, key, "uploadId=" + Uri.EscapeDataString(upload), S3Signature.EmptyBody, null);
                using var response = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, stillness.Token);
                S3Transport.ThrowIfTransient(response.StatusCode);
                return true;
            }, CancellationToken.None);
        }
        catch (StageFailureException e)
        {
            System.Diagnostics.Trace.TraceWarning(e.Message);
        }
    }

    private HttpRequestMessage Request(HttpMethod method, string key, string query, string bodySha256Hex, HttpContent? content)
    {
        var path = key.Length == 0 ? settings.Bucket : settings.Bucket + "/" + key;
        var request = new HttpRequestMessage(method, new UriBuilder(settings.Endpoint) { Path = path, Query = query }.Uri) { Content = content };
        S3Signature.Sign(request, settings, bodySha256Hex, clock.GetUtcNow());
        return request;
    }

    private async Task ThrowIfRefusedAsync(HttpResponseMessage response, string key, string verb, Stillness stillness)
    {
        S3Transport.ThrowIfTransient(response.StatusCode);
        if (response.IsSuccessStatusCode)
        {
            return;
        }

        var answer = await S3Transport.ReadAsync(response, stillness);
        var code = Element(answer, "Code") ?? response.StatusCode.ToString();
        if (code == "NoSuchKey")
        {
            throw new BlobMissingException(key);
        }

        throw Refused(key.Length == 0 ? verb + " it" : $"{verb} '{key}'", code, Element(answer, "Message") ?? $"it answered {(int)response.StatusCode}.", null);
    }

    private StageFailureException Refused(string what, Exception e) => e is MinioException { Response: { Code.Length: > 0 } response }
        ? Refused(what, response.Code, response.Message, e)
        : Refused(what, e is AccessDeniedException or AuthorizationException or ForbiddenException ? "AccessDenied" : e is BucketNotFoundException ? "NoSuchBucket" : e.GetType().Name, e.Message, e);

    private StageFailureException Refused(string what, string code, string message, Exception? inner)
    {
        var hint = code switch
        {
            "AccessDenied" or "Forbidden" or "InvalidAccessKeyId" or "SignatureDoesNotMatch" =>
                $"check {S3Settings.AccessKeyVariable}, {S3Settings.SecretKeyVariable}, {S3Settings.RegionVariable} and what the key may do with the bucket",
            "NoSuchBucket" => $"make the bucket, or name another in {S3Settings.StoreVariable}",
            "RequestTimeTooSkewed" => "set the clock of this machine: fastdraft doctor says by how much it is off",
            _ => null,
        };
        return new StageFailureException(
            hint is null ? FailureKind.Infrastructure : FailureKind.Config, $"The object store at {settings.Endpoint} refused to {what} in bucket '{settings.Bucket}': {code}: {message}", hint ?? "fastdraft doctor", inner);
    }

    private static string? Element(byte[] xml, string name)
    {
        try
        {
            using var stream = new MemoryStream(xml);
            return XDocument.Load(stream).Descendants().FirstOrDefault(e => e.Name.LocalName == name)?.Value;
        }
        catch (XmlException)
        {
            return null;
        }
    }
}
