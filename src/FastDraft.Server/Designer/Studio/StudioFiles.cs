using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
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

    internal static void UseStudioFiles(this IApplicationBuilder app, string? folder)
    {
        if (folder is null)
        {
            return;
        }

        var types = new FileExtensionContentTypeProvider();
        types.Mappings[".dat"] = types.Mappings[".blat"] = types.Mappings[".dll"] = types.Mappings[".pdb"] = "application/octet-stream";
        types.Mappings[".webmanifest"] = "application/manifest+json";
        var files = new PhysicalFileProvider(Path.GetFullPath(folder));
        app.Use(async (context, next) =>
        {
            if (!HttpMethods.IsGet(context.Request.Method) || !context.Request.Path.StartsWithSegments("/studio", StringComparison.Ordinal, out var rest) || !rest.HasValue
                || !types.TryGetContentType(rest.Value!, out var type) || !files.GetFileInfo(rest.Value!).Exists)
            {
                await next(context);
                return;
            }

            var accepted = context.Request.Headers.AcceptEncoding.ToString();
            var (encoding, extension) = Twins.FirstOrDefault(t => accepted.Contains(t.Encoding, StringComparison.Ordinal) && files.GetFileInfo(rest.Value + t.Extension).Exists);
            var file = files.GetFileInfo(rest.Value + extension);
            var headers = context.Response.Headers;
            var tag = $"\"{file.LastModified.UtcTicks:x}-{file.Length:x}\"";
            headers.Vary = "Accept-Encoding";
            headers.ETag = tag;
            headers.CacheControl = IsFingerprinted(rest.Value!) ? "public, max-age=31536000, immutable" : "no-cache";
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
            context.Response.ContentLength = file.Length;
            await context.Response.SendFileAsync(file, context.RequestAborted);
        });
    }

    // Foo.<ten letters and digits>.wasm: the name changes with the content.
    private static bool IsFingerprinted(string path)
    {
        var parts = Path.GetFileName(path).Split('.');
        return path.Contains("/_framework/", StringComparison.Ordinal) && parts.Length >= 3 && parts[^2].Length == 10 && parts[^2].All(char.IsAsciiLetterOrDigit);
    }
}
