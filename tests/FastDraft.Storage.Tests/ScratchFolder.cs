namespace FastDraft.Storage.Tests;

/// <summary>A folder that is gone with its test.</summary>
internal sealed class ScratchFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("fastdraft-storage-").FullName;

    public string Of(string name) => System.IO.Path.Combine(Path, name);

    /// <summary>A new folder with these files.</summary>
    public string With(params (string Path, byte[] Bytes)[] files)
    {
        var folder = Of(Guid.CreateVersion7().ToString("N"));
        Directory.CreateDirectory(folder);
        foreach (var (path, bytes) in files)
        {
            Directory.CreateDirectory(System.IO.Path.GetDirectoryName(System.IO.Path.Combine(folder, path))!);
            File.WriteAllBytes(System.IO.Path.Combine(folder, path), bytes);
        }

        return folder;
    }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
