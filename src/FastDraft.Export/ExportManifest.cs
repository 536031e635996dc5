using System.Text.Json;
using System.Text.Json.Nodes;

namespace FastDraft.Export;

/// <summary>export.json of an exported folder: its format and precision. Its presence says that the folder is an export.</summary>
public sealed record ExportManifest(ExportFormat Format, WeightPrecision Precision)
{
    public const string FileName = "export.json";

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    public static bool Exists(string folder) => File.Exists(Path.Combine(folder, FileName));

    public void Save(string folder) => File.WriteAllText(
        Path.Combine(folder, FileName),
        new JsonObject { ["format"] = ModelExport.NameOf(Format), ["precision"] = ModelExport.NameOf(Precision) }.ToJsonString(Indented) + "\n");
}
