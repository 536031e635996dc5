using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace FastDraft.Core.Workflows;

/// <summary>Where each JSON path of a text begins, so that an error found in the parsed tree can name its line and column.</summary>
internal sealed class JsonPlaces
{
    public const int MaxBytes = 1 << 20;
    public const int MaxDepth = 64;

    private readonly byte[] _utf8;
    private readonly Dictionary<string, int> _values = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int> _names = new(StringComparer.Ordinal);

    private JsonPlaces(byte[] utf8) => _utf8 = utf8;

    /// <exception cref="WorkflowFormatException">Too large, too deep, not JSON, or a member given twice.</exception>
    public static JsonPlaces Read(string json)
    {
        var utf8 = Encoding.UTF8.GetBytes(json);
        if (utf8.Length > MaxBytes)
        {
            throw new WorkflowFormatException($"The workflow has {utf8.Length} bytes; at most {MaxBytes} are read.");
        }

        var places = new JsonPlaces(utf8);
        try
        {
            places.Walk();
        }
        catch (JsonException e)
        {
            throw new WorkflowFormatException(
                "Not valid JSON: " + e.Message, (int)(e.LineNumber ?? -1) + 1, (int)(e.BytePositionInLine ?? -1) + 1, "$", e);
        }

        return places;
    }

    public static string PathOf(JsonNode? node) => node?.Parent switch
    {
        JsonObject => PathOf(node.Parent) + "." + node.GetPropertyName(),
        JsonArray => PathOf(node.Parent) + "[" + node.GetElementIndex() + "]",
        _ => "$",
    };

    /// <summary>The place of a path, or of the nearest enclosing path that the text has.</summary>
    public (int Line, int Column) Find(string path, bool name = false)
    {
        if (name && _names.TryGetValue(path, out var offset))
        {
            return PlaceOf(offset);
        }

        while (!_values.TryGetValue(path, out offset))
        {
            var cut = path.LastIndexOfAny(['.', '[']);
            if (cut <= 0)
            {
                return (1, 1);
            }

            path = path[..cut];
        }

        return PlaceOf(offset);
    }

    private (int Line, int Column) PlaceOf(int offset)
    {
        var before = _utf8.AsSpan(0, offset);
        var lineStart = before.LastIndexOf((byte)'\n') + 1;
        return (before.Count((byte)'\n') + 1, Encoding.UTF8.GetCharCount(before[lineStart..]) + 1);
    }

    private void Walk()
    {
        var reader = new Utf8JsonReader(_utf8, new JsonReaderOptions { MaxDepth = MaxDepth });
        var open = new Stack<Level>();
        var path = "$";
        while (reader.Read())
        {
            var offset = (int)reader.TokenStartIndex;
            switch (reader.TokenType)
            {
                case JsonTokenType.PropertyName:
                    var level = open.Peek();
                    var name = reader.GetString()!;
                    path = level.Path + "." + name;
                    if (!level.Names!.Add(name))
                    {
                        var (line, column) = PlaceOf(offset);
                        throw new WorkflowFormatException($"Member '{name}' is given twice.", line, column, path);
                    }

                    _names[path] = offset;
                    continue;
                case JsonTokenType.EndObject or JsonTokenType.EndArray:
                    open.Pop();
                    continue;
            }

            if (open.TryPeek(out var parent) && parent.Names is null)
            {
                path = parent.Path + "[" + parent.Count++ + "]";
            }

            _values[path] = offset;
            if (reader.TokenType is JsonTokenType.StartObject)
            {
                open.Push(new Level(path, new HashSet<string>(StringComparer.Ordinal)));
            }
            else if (reader.TokenType is JsonTokenType.StartArray)
            {
                open.Push(new Level(path, null));
            }
        }
    }

    private sealed class Level(string path, HashSet<string>? names)
    {
        public string Path { get; } = path;

        public HashSet<string>? Names { get; } = names;

        public int Count { get; set; }
    }
}
