namespace FastDraft.Server.Web;

/// <summary>The service's own pages, styles and scripts, inside the assembly.</summary>
internal static class PageFile
{
    public static string Read(string name)
    {
        using var stream = typeof(PageFile).Assembly.GetManifestResourceStream("pages/" + name) ?? throw new FileNotFoundException($"The assembly has no page '{name}'.");
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }
}
