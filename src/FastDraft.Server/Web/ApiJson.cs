using System.Text.Json;
using System.Text.Json.Serialization;
using FastDraft.Server.Definitions;

namespace FastDraft.Server.Web;

/// <summary>camelCase, enumerations as words, nulls left out, and no deeper than a definition inside its envelope.</summary>
internal static class ApiJson
{
    public static JsonSerializerOptions Options { get; } = Configure(new JsonSerializerOptions());

    public static JsonSerializerOptions Configure(JsonSerializerOptions options)
    {
        options.PropertyNamingPolicy = JsonNamingPolicy.CamelCase;
        options.PropertyNameCaseInsensitive = true;
        options.DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull;
        options.AllowDuplicateProperties = false;
        options.MaxDepth = DefinitionDocument.MaxDepth + 2;
        options.Converters.Add(new JsonStringEnumConverter());
        return options;
    }
}
