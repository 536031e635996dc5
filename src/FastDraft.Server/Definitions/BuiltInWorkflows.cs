using System.Collections.Concurrent;
using System.Text.Json.Nodes;

namespace FastDraft.Server.Definitions;

/// <summary>The workflow files that ship with the pipeline, read again whenever one changes. They can be run and copied, not changed.</summary>
internal sealed class BuiltInWorkflows(string? folder)
{
    private readonly ConcurrentDictionary<string, (DateTime Modified, long Length, StoredDefinition Definition)> files = new(StringComparer.Ordinal);

    public IReadOnlyList<StoredDefinition> List() => folder is null || !Directory.Exists(folder)
        ? []
        : [.. Directory.EnumerateFiles(folder, "*.json").Order(StringComparer.Ordinal).Select(Read).DistinctBy(d => d.Head.DefinitionId)];

    public StoredDefinition? Find(string definitionId) => List().FirstOrDefault(d => d.Head.DefinitionId == definitionId);

    private StoredDefinition Read(string file)
    {
        var info = new FileInfo(file);
        if (files.TryGetValue(file, out var known) && known.Modified == info.LastWriteTimeUtc && known.Length == info.Length)
        {
            return known.Definition;
        }

        var read = Load(info);
        files[file] = (info.LastWriteTimeUtc, info.Length, read);
        return read;
    }

    // A file that is no definition still has a place in the list: under its own name, saying what is wrong with it when it is opened.
    private static StoredDefinition Load(FileInfo file)
    {
        var json = file.Length <= DefinitionDocument.MaxBytes ? File.ReadAllText(file.FullName) : "";
        var members = DefinitionDocument.TryParse(json) ?? [];
        var id = Text(members, "definitionId") is { } given && DefinitionDocument.IsLegalId(given) ? given : DefinitionDocument.IdFrom(Path.GetFileNameWithoutExtension(file.Name));
        var version = members["version"] is JsonValue number && number.TryGetValue<int>(out var v) ? v : 1;
        return new StoredDefinition(
            new DefinitionHead(
                "builtin-" + id, id, version, Text(members, "name") ?? id, Text(members, "description"), IsLatest: true, IsPublished: true, IsReadOnly: true,
                new DateTimeOffset(file.LastWriteTimeUtc)),
            json);
    }

    private static string? Text(JsonObject json, string member) => json[member] is JsonValue value && value.TryGetValue<string>(out var text) ? text : null;
}
