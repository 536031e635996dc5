namespace FastDraft.Modeling.Tests.Checkpoints;

/// <summary>A folder that goes away with the fact.</summary>
internal sealed class ScratchFolder : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("fastdraft-facts-");

    public string Path => _folder.FullName;

    public string File(string name) => System.IO.Path.Join(Path, name);

    public void Dispose() => _folder.Delete(recursive: true);
}
