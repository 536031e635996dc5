using System.Globalization;
using System.Runtime.InteropServices;
using System.Xml.Linq;

namespace FastDraft.Export.OpenVino;

/// <summary>One output port of a layer. A dimension of -1 is dynamic.</summary>
internal sealed record IrValue(int Layer, int Port, string Precision, long[] Shape);

/// <summary>
/// Builds an OpenVINO IR (XML version 11): layers with typed ports, constants by offset in the .bin, edges after the layers. Layers
/// come in topological order because a layer can only be added after its inputs.
/// </summary>
internal sealed class IrGraph(Stream weights)
{
    private const int Alignment = 64;

    private readonly XElement _layers = new("layers");
    private readonly XElement _edges = new("edges");
    private readonly Dictionary<string, IrValue> _smallConstants = [];
    private int _nextLayer;

    public IrValue Parameter(string name, string type, params long[] shape)
    {
        var layer = Layer(name, "Parameter", 1, new XElement("data", new XAttribute("shape", ShapeText(shape)), new XAttribute("element_type", type)));
        return Output(layer, 0, Precision(type), shape, name);
    }

    /// <summary>A float32 weight, written once to the .bin.</summary>
    public IrValue Weight(string name, float[] values, params long[] shape) => Const(name, "f32", shape, MemoryMarshal.AsBytes(values.AsSpan()));

    /// <summary>A constant whose bytes are written straight to the .bin, however many they are.</summary>
    public IrValue Constant(string name, string type, long[] shape, Action<Stream> write)
    {
        Align();
        var start = weights.Position;
        write(weights);
        return ConstantAt(name, type, shape, start, weights.Position - start);
    }

    /// <summary>The conversion of stored weights to what the graph computes in, which plugins keep folded into the multiplication.</summary>
    public IrValue Decompress(IrValue x, string type, long[] shape)
    {
        var value = Add("Convert", 1, shape, [x], [("destination_type", type)], Precision(type));
        var layer = _layers.Elements().Last();
        layer.Add(new XElement("rt_info", new XElement("attribute", new XAttribute("name", "decompression"), new XAttribute("version", "0"))));
        return value;
    }

    public IrValue Integers(string name, params int[] values) => Const(name, "i32", [values.Length], MemoryMarshal.AsBytes(values.AsSpan()));

    /// <summary>Bytes as a vector of u8: a text, to the tokenizer extension.</summary>
    public IrValue Bytes(string name, byte[] bytes) => Const(name, "u8", [bytes.Length], bytes);

    public IrValue Scalar(float value) => Shared(
        $"f32_{value.ToString("R", CultureInfo.InvariantCulture)}", name => Const(name, "f32", [], BitConverter.GetBytes(value)));

    public IrValue Scalar(long value) => Shared($"i64_{value}", name => Const(name, "i64", [], BitConverter.GetBytes(value)));

    public IrValue Scalar(int value) => Shared($"i32_{value}", name => Const(name, "i32", [], BitConverter.GetBytes(value)));

    public IrValue Vector(params long[] values) => Shared(
        $"i64v_{string.Join("_", values)}", name => Const(name, "i64", [values.Length], MemoryMarshal.AsBytes(values.AsSpan())));

    /// <summary>Adds a layer with one output. The output's precision is that of the first input unless given.</summary>
    public IrValue Add(
        string type, int opset, long[] shape, IrValue[] inputs, (string Name, string Value)[]? attributes = null, string? precision = null, string? tensorName = null) =>
        AddMany(type, opset, [shape], inputs, attributes, precision, tensorName)[0];

    public IrValue[] AddMany(
        string type, int opset, long[][] shapes, IrValue[] inputs, (string Name, string Value)[]? attributes = null, string? precision = null, string? tensorName = null)
    {
        var layer = Layer($"{type}_{_nextLayer}", type, opset, Data(attributes));
        Connect(layer, inputs);
        return [.. shapes.Select((shape, i) => Output(layer, inputs.Length + i, precision ?? inputs[0].Precision, shape, i == 0 ? tensorName : null))];
    }

    /// <summary>Adds a layer whose outputs are vectors of these precisions: those of the tokenizer extension, and those that make or take strings.</summary>
    /// <param name="opset">The opset's number; null for the extension.</param>
    public IrValue[] AddVectors(string type, int? opset, IrValue[] inputs, string[] precisions, params (string Name, string Value)[] attributes) =>
        AddMixed(type, opset, inputs, [.. precisions.Select(p => (p, new long[] { -1 }))], attributes);

    /// <summary>Adds a layer whose outputs differ in precision.</summary>
    public IrValue[] AddMixed(string type, int? opset, IrValue[] inputs, (string Precision, long[] Shape)[] outputs, params (string Name, string Value)[] attributes)
    {
        var layer = Layer($"{type}_{_nextLayer}", type, opset, attributes.Length == 0 ? null : Data(attributes));
        Connect(layer, inputs);
        return [.. outputs.Select((o, i) => Output(layer, inputs.Length + i, o.Precision, o.Shape))];
    }

    public void Result(IrValue value, string tensorName)
    {
        var layer = Layer($"Result_{_nextLayer}", "Result", 1, null);
        layer.Add(new XAttribute("output_names", tensorName));
        Connect(layer, [value]);
    }

    /// <summary>Writes the XML, with what a runtime is to know of the model as rt_info.</summary>
    public void Save(string path, string name, params (string Name, string Value)[] information)
    {
        var document = new XDocument(new XElement(
            "net",
            new XAttribute("name", name),
            new XAttribute("version", "11"),
            _layers,
            _edges,
            new XElement("rt_info", information.Select(i => new XElement(i.Name, new XAttribute("value", i.Value))))));
        document.Save(path);
    }

    private static string Precision(string type) => type switch
    {
        "f32" => "FP32",
        "f16" => "FP16",
        "bf16" => "BF16",
        "u8" => "U8",
        "u4" => "U4",
        "boolean" => "BOOL",
        "string" => "STRING",
        "i64" => "I64",
        "i32" => "I32",
        _ => throw new ArgumentException($"No precision is known for element type '{type}'.", nameof(type)),
    };

    private static string ShapeText(long[] shape) => string.Join(",", shape.Select(d => d < 0 ? "?" : d.ToString(CultureInfo.InvariantCulture)));

    private static XElement? Data((string Name, string Value)[]? attributes) =>
        attributes is null ? null : new XElement("data", attributes.Select(a => new XAttribute(a.Name, a.Value)));

    private static XElement Port(int id, string precision, long[] shape, string? names) => new(
        "port",
        new XAttribute("id", id),
        new XAttribute("precision", precision),
        names is null ? null : new XAttribute("names", names),
        shape.Select(d => new XElement("dim", d)));

    private static IrValue Output(XElement layer, int port, string precision, long[] shape, string? tensorName = null)
    {
        if (layer.Element("output") is not { } output)
        {
            output = new XElement("output");
            layer.Add(output);
        }

        output.Add(Port(port, precision, shape, tensorName));
        return new IrValue((int)layer.Attribute("id")!, port, precision, shape);
    }

    private XElement Layer(string name, string type, int? opset, XElement? data)
    {
        var layer = new XElement(
            "layer",
            new XAttribute("id", _nextLayer++),
            new XAttribute("name", name),
            new XAttribute("type", type),
            new XAttribute("version", opset is null ? "extension" : $"opset{opset}"),
            data);
        _layers.Add(layer);
        return layer;
    }

    private void Connect(XElement layer, IrValue[] inputs)
    {
        layer.Add(new XElement("input", inputs.Select((value, i) => Port(i, value.Precision, value.Shape, null))));
        for (var i = 0; i < inputs.Length; i++)
        {
            _edges.Add(new XElement(
                "edge",
                new XAttribute("from-layer", inputs[i].Layer),
                new XAttribute("from-port", inputs[i].Port),
                new XAttribute("to-layer", (int)layer.Attribute("id")!),
                new XAttribute("to-port", i)));
        }
    }

    private IrValue Shared(string key, Func<string, IrValue> create)
    {
        if (!_smallConstants.TryGetValue(key, out var value))
        {
            value = create("Const_" + key);
            _smallConstants.Add(key, value);
        }

        return value;
    }

    private IrValue Const(string name, string type, long[] shape, ReadOnlySpan<byte> bytes)
    {
        Align();
        var start = weights.Position;
        weights.Write(bytes);
        return ConstantAt(name, type, shape, start, bytes.Length);
    }

    private IrValue ConstantAt(string name, string type, long[] shape, long offset, long size)
    {
        var data = new XElement(
            "data",
            new XAttribute("element_type", type),
            new XAttribute("shape", ShapeText(shape)),
            new XAttribute("offset", offset),
            new XAttribute("size", size));
        return Output(Layer(name, "Const", 1, data), 0, Precision(type), shape);
    }

    private void Align()
    {
        while (weights.Position % Alignment != 0)
        {
            weights.WriteByte(0);
        }
    }
}
