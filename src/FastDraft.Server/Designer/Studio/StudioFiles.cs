using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.StaticFiles;
using Microsoft.Extensions.FileProviders;

namespace FastDraft.Server.Designer.Studio;

/// <summary>The designer's files under <c>/studio</c>, compressed where the browser takes it: the package has a twin of each file.</summary>
public static class StudioFiles
{
    /// <summary>The package's manifest and lock, in a checkout.</summary>
    public const string PackageFolder = "src/FastDraft.Server/Designer/Studio";

    private const string Package = "node_modules/@elsa-workflows/elsa-studio-wasm";

    private static readonly (string Encoding, string Extension)[] Twins = [("br", ".br"), ("gzip", ".gz")];

    /// <summary>Where the designer is: beside a published service, or in the checkout that this was built from. Null where it is not installed.</summary>
    public static string? Find()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            foreach (var place in (string[])[Path.Join(folder.FullName, "studio"), Path.Join(folder.FullName, PackageFolder, Package)])
            {
                if (Directory.Exists(Path.Join(place, "_framework")))
                {
                    return place;
                }
            }
        }

        return null;
    }

    internal static void Map(IEndpointRouteBuilder routes, string? folder)
    {
        var types = new FileExtensionContentTypeProvider();
        types.Mappings[".dat"] = types.Mappings[".blat"] = types.Mappings[".dll"] = types.Mappings[".pdb"] = "application/octet-stream";
        types.Mappings[".webmanifest"] = "application/manifest+json";
        IFileProvider files = folder is null ? new NullFileProvider() : new PhysicalFileProvider(Path.GetFullPath(folder));
        routes.MapGet("/studio/{**file}", async (string? file, HttpContext context) =>
        {
            if (!types.TryGetContentType(file ?? "", out var type) || !files.GetFileInfo(file!).Exists)
            {
                context.Response.StatusCode = StatusCodes.Status404NotFound;
                return;
            }

            var accepted = context.Request.Headers.AcceptEncoding.ToString();
            var (encoding, extension) = Twins.FirstOrDefault(t => accepted.Contains(t.Encoding, StringComparison.Ordinal) && files.GetFileInfo(file + t.Extension).Exists);
            var sent = files.GetFileInfo(file + extension);
            var headers = context.Response.Headers;
            var tag = $"\"{sent.LastModified.UtcTicks:x}-{sent.Length:x}\"";
            headers.Vary = "Accept-Encoding";
            headers.ETag = tag;
            headers.CacheControl = IsFingerprinted(file!) ? "private, max-age=31536000, immutable" : "no-cache";
            if (context.Request.Headers.IfNoneMatch.ToString() == tag)
            {
                context.Response.StatusCode = StatusCodes.Status304NotModified;
                return;
            }

            if (encoding is not null)
            {
                headers.ContentEncoding = encoding;
            }

            context.Response.ContentType = type;
            context.Response.ContentLength = sent.Length;
            await context.Response.SendFileAsync(sent, context.RequestAborted);
        });
    }

    // Foo.<ten letters and digits>.wasm: the name changes with the content.
    private static bool IsFingerprinted(string path)
    {
        var parts = Path.GetFileName(path).Split('.');
        return path.StartsWith("_framework/", StringComparison.Ordinal) && parts.Length >= 3 && parts[^2].Length == 10 && parts[^2].All(char.IsAsciiLetterOrDigit);
    }
}
