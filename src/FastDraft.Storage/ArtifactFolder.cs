using System.Runtime.InteropServices;
using FastDraft.Core.Artifacts;
using FastDraft.Core.Stages;

namespace FastDraft.Storage;

/// <summary>An artifact as files in a folder: what is stored of one, and how a stored one is laid out.</summary>
internal static partial class ArtifactFolder
{
    /// <summary>Every file below the folder, in the order of a manifest.</summary>
    /// <exception cref="StageFailureException">One of them is a link: its bytes are somebody else's.</exception>
    public static IReadOnlyList<FileInfo> Files(string source)
    {
        var files = Directory.EnumerateFiles(source, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal).Select(p => new FileInfo(p)).ToList();
        return files.Find(f => f.LinkTarget is not null) is { } link
            ? throw new StageFailureException(FailureKind.Data, $"Output file '{link.Name}' is a link.", "Write the file itself.")
            : files;
    }

    /// <summary>The path in the manifest.</summary>
    public static string NameOf(string source, FileInfo file) => Path.GetRelativePath(source, file.FullName).Replace('\\', '/');

    /// <exception cref="StageFailureException">The artifact has no such file.</exception>
    public static ArtifactFile Find(ArtifactManifest manifest, Digest digest, string path) => manifest.Files.FirstOrDefault(f => f.Path == path)
        ?? throw new StageFailureException(FailureKind.Data, $"Artifact {digest} has no file '{path}'.", $"fastdraft artifacts show {digest}");

    /// <summary>Gives a blob its name below <paramref name="root"/>, by hard link where the file system allows it.</summary>
    /// <exception cref="StageFailureException">The manifest names a file outside its folder, or the disk is full.</exception>
    public static void LayOut(string blob, string root, Digest digest, ArtifactFile file)
    {
        root = Path.GetFullPath(root);
        var path = Path.GetFullPath(Path.Combine(root, file.Path));
        if (!path.StartsWith(root + Path.DirectorySeparatorChar, StringComparison.Ordinal))
        {
            throw new StageFailureException(FailureKind.Data, $"Artifact {digest} names a file outside its folder: '{file.Path}'.");
        }

        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.Delete(path);
        if (!TryLink(blob, path))
        {
            DiskSpace.Require(root, file.SizeBytes, $"'{file.Path}' of an input");
            File.Copy(blob, path);
        }
    }

    public static bool TryLink(string existing, string created) => !OperatingSystem.IsWindows() && Link(existing, created) == 0;

    public static void MakeReadOnly(string path)
    {
        if (!OperatingSystem.IsWindows())
        {
            File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
        }
    }

    [LibraryImport("libc", EntryPoint = "link", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Link(string existing, string created);
}
