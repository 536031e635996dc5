using System.Text.Json.Nodes;
using FastDraft.Core.Stages;

namespace FastDraft.Stages.Tests.IngestCorpus;

/// <summary>A scratch folder to run a stage in.</summary>
internal sealed class StageFolder : IDisposable, IStageEvents
{
    public string Root { get; } = Directory.CreateTempSubdirectory("fastdraft-stage").FullName;

    public string this[string name] => Path.Combine(Root, name);

    public string File(string name, string content) => File(name, System.Text.Encoding.UTF8.GetBytes(content));

    public string File(string name, byte[] content)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(this[name])!);
        System.IO.File.WriteAllBytes(this[name], content);
        return this[name];
    }

    /// <summary>Input port to the name of its folder here.</summary>
    public Dictionary<string, string> Inputs { get; } = new() { ["corpus"] = "corpus" };

    /// <summary>What the stage said.</summary>
    public List<string> Lines { get; } = [];

    public StageContext Context(JsonObject settings, params string[] outputs)
    {
        Directory.CreateDirectory(this["scratch"]);
        return new(
            settings, Inputs.ToDictionary(i => i.Key, i => this[i.Value]), outputs.ToDictionary(o => o, o => this[o]),
            this["scratch"], this["scratch"], "cpu", this);
    }

    public JsonNode Json(string name) => JsonNode.Parse(System.IO.File.ReadAllText(this[name]))!;

    public void Progress(long done, long? total, string unit)
    {
    }

    public void Metric(string name, double value, long step)
    {
    }

    public void Log(string message, StageLogLevel level = StageLogLevel.Information) => Lines.Add(message);

    public void Dispose() => Directory.Delete(Root, recursive: true);
}
