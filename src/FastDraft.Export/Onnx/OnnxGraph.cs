using System.Runtime.InteropServices;
using Google.Protobuf;

namespace FastDraft.Export.Onnx;

/// <summary>
/// Builds a GraphProto in the protobuf wire format. Field numbers are those of the public ONNX IR (onnx.proto, IR version 8): only the
/// messages that a decoder needs are written, so no generated code is necessary.
/// </summary>
internal sealed class OnnxGraph(string? externalDataName, Stream? externalData) : IDisposable
{
    public const int Float = 1;
    public const int UInt8 = 2;
    public const int Int64 = 7;
    public const int Bool = 9;

    /// <summary>The domain of ONNX Runtime's own operators: those that compute with quantized weights.</summary>
    public const string RuntimeDomain = "com.microsoft";

    private const int IrVersion = 8;
    private const int OpsetVersion = 17;
    private const int RuntimeOpsetVersion = 1;

    // Below this a tensor stays in the graph even when weights are external: shape inference reads small constants.
    private const int SmallTensorBytes = 1024;
    private const int PageBytes = 4096;

    private readonly MemoryStream _nodes = new();
    private readonly MemoryStream _initializers = new();
    private readonly MemoryStream _values = new();
    private readonly Dictionary<string, string> _constants = [];
    private int _numNodes;
    private bool _usesRuntimeDomain;

    public string Input(string name, int elementType, params object[] shape)
    {
        WriteMessage(_values, 11, ValueInfo(name, elementType, shape));
        return name;
    }

    public void Output(string name, int elementType, params object[] shape) => WriteMessage(_values, 12, ValueInfo(name, elementType, shape));

    public string Floats(string name, float[] values, params long[] shape) =>
        Initializer(name, Float, shape, MemoryMarshal.AsBytes(values.AsSpan()));

    public string Bytes(string name, byte[] values, params long[] shape) => Initializer(name, UInt8, shape, values);

    /// <summary>A constant whose bytes are written straight to the external data where there is such a file, however many they are.</summary>
    public string Constant(string name, int elementType, long[] shape, Action<Stream> write)
    {
        if (externalData is null)
        {
            using var buffer = new MemoryStream();
            write(buffer);
            return Initializer(name, elementType, shape, buffer.GetBuffer().AsSpan(0, (int)buffer.Length));
        }

        var offset = AlignedEnd();
        write(externalData);
        Describe(name, elementType, shape, m => WriteLocation(m, offset, externalData.Position - offset));
        return name;
    }

    /// <summary>A scalar constant, shared by all its users.</summary>
    public string Scalar(float value) => Constant($"f{value:R}", name => Initializer(name, Float, [], BitConverter.GetBytes(value)));

    public string Scalar(long value) => Constant($"i{value}", name => Initializer(name, Int64, [], BitConverter.GetBytes(value)));

    /// <summary>A one-dimensional int64 constant, shared by all its users.</summary>
    public string Vector(params long[] values) => Constant(
        $"v{string.Join("_", values)}",
        name => Initializer(name, Int64, [values.Length], MemoryMarshal.AsBytes(values.AsSpan())));

    public string Node(string type, string[] inputs, params (string Name, object Value)[] attributes) =>
        NamedNode(type, $"{type}_{_numNodes}", inputs, attributes);

    public string NamedNode(string type, string output, string[] inputs, params (string Name, object Value)[] attributes)
    {
        Nodes(type, inputs, [output], attributes);
        return output;
    }

    /// <summary>A node of <see cref="RuntimeDomain"/>.</summary>
    public string RuntimeNode(string type, string? output, string[] inputs, params (string Name, object Value)[] attributes)
    {
        output ??= $"{type}_{_numNodes}";
        Nodes(type, inputs, [output], attributes, RuntimeDomain);
        _usesRuntimeDomain = true;
        return output;
    }

    public (string First, string Second) SplitInTwo(string input)
    {
        var (first, second) = ($"Split_{_numNodes}_0", $"Split_{_numNodes}_1");
        Nodes("Split", [input], [first, second], [("axis", -1L)]);
        return (first, second);
    }

    /// <summary>Writes the ModelProto.</summary>
    public void WriteTo(Stream output, string producer, string producerVersion)
    {
        using var coded = new CodedOutputStream(output, leaveOpen: true);
        coded.WriteTag(1, WireFormat.WireType.Varint);
        coded.WriteInt64(IrVersion);
        WriteText(coded, 2, producer);
        WriteText(coded, 3, producerVersion);
        WriteBytes(coded, 8, Opset("", OpsetVersion));
        if (_usesRuntimeDomain)
        {
            WriteBytes(coded, 8, Opset(RuntimeDomain, RuntimeOpsetVersion));
        }

        var name = Message(m => WriteText(m, 2, "decoder"));
        coded.WriteTag(7, WireFormat.WireType.LengthDelimited);
        coded.WriteLength(checked((int)(_nodes.Length + name.Length + _initializers.Length + _values.Length)));
        coded.Flush();
        _nodes.WriteTo(output);
        output.Write(name);
        _initializers.WriteTo(output);
        _values.WriteTo(output);
    }

    public void Dispose()
    {
        _nodes.Dispose();
        _initializers.Dispose();
        _values.Dispose();
    }

    private static byte[] Opset(string domain, int version) => Message(m =>
    {
        WriteText(m, 1, domain);
        m.WriteTag(2, WireFormat.WireType.Varint);
        m.WriteInt64(version);
    });

    private void Nodes(string type, string[] inputs, string[] outputs, (string Name, object Value)[] attributes, string? domain = null)
    {
        WriteMessage(_nodes, 1, Message(m =>
        {
            foreach (var input in inputs)
            {
                WriteText(m, 1, input);
            }

            foreach (var output in outputs)
            {
                WriteText(m, 2, output);
            }

            WriteText(m, 3, $"{type}_node_{_numNodes}");
            WriteText(m, 4, type);
            foreach (var (attributeName, value) in attributes)
            {
                WriteBytes(m, 5, Attribute(attributeName, value));
            }

            if (domain is not null)
            {
                WriteText(m, 7, domain);
            }
        }));
        _numNodes++;
    }

    private static byte[] Attribute(string name, object value) => Message(m =>
    {
        WriteText(m, 1, name);
        switch (value)
        {
            case long integer:
                m.WriteTag(3, WireFormat.WireType.Varint);
                m.WriteInt64(integer);
                break;
            case long[] integers:
                foreach (var integer in integers)
                {
                    m.WriteTag(8, WireFormat.WireType.Varint);
                    m.WriteInt64(integer);
                }

                break;
            default:
                throw new ArgumentException($"Attribute '{name}' is a {value.GetType().Name}.", nameof(value));
        }

        m.WriteTag(20, WireFormat.WireType.Varint);
        m.WriteEnum(value is long ? 2 : 7);
    });

    private string Constant(string key, Func<string, string> create)
    {
        if (!_constants.TryGetValue(key, out var name))
        {
            name = create("const_" + key);
            _constants.Add(key, name);
        }

        return name;
    }

    private string Initializer(string name, int elementType, long[] shape, ReadOnlySpan<byte> bytes)
    {
        if (externalData is not null && bytes.Length > SmallTensorBytes)
        {
            var (offset, length) = (AlignedEnd(), bytes.Length);
            externalData.Write(bytes);
            Describe(name, elementType, shape, m => WriteLocation(m, offset, length));
            return name;
        }

        var raw = bytes.ToArray();
        Describe(name, elementType, shape, m => WriteBytes(m, 9, raw));
        return name;
    }

    // Page alignment lets a runtime map the file instead of reading it.
    private long AlignedEnd()
    {
        var end = (externalData!.Length + PageBytes - 1) / PageBytes * PageBytes;
        externalData.SetLength(end);
        externalData.Position = end;
        return end;
    }

    private void Describe(string name, int elementType, long[] shape, Action<CodedOutputStream> writeData) => WriteMessage(_initializers, 5, Message(m =>
    {
        foreach (var dimension in shape)
        {
            m.WriteTag(1, WireFormat.WireType.Varint);
            m.WriteInt64(dimension);
        }

        m.WriteTag(2, WireFormat.WireType.Varint);
        m.WriteInt32(elementType);
        WriteText(m, 8, name);
        writeData(m);
    }));

    private void WriteLocation(CodedOutputStream m, long offset, long length)
    {
        foreach (var (key, value) in new[] { ("location", externalDataName!), ("offset", $"{offset}"), ("length", $"{length}") })
        {
            WriteBytes(m, 13, Message(entry =>
            {
                WriteText(entry, 1, key);
                WriteText(entry, 2, value);
            }));
        }

        m.WriteTag(14, WireFormat.WireType.Varint);
        m.WriteEnum(1);
    }

    // ValueInfoProto { name = 1, type = 2 { tensor_type = 1 { elem_type = 1, shape = 2 { dim = 1 { dim_value = 1 | dim_param = 2 } } } } }
    private static byte[] ValueInfo(string name, int elementType, object[] shape)
    {
        var shapeProto = Message(m =>
        {
            foreach (var dimension in shape)
            {
                WriteBytes(m, 1, Message(d =>
                {
                    if (dimension is string symbol)
                    {
                        WriteText(d, 2, symbol);
                    }
                    else
                    {
                        d.WriteTag(1, WireFormat.WireType.Varint);
                        d.WriteInt64((int)dimension);
                    }
                }));
            }
        });
        var tensorType = Message(m =>
        {
            m.WriteTag(1, WireFormat.WireType.Varint);
            m.WriteInt32(elementType);
            WriteBytes(m, 2, shapeProto);
        });
        return Message(m =>
        {
            WriteText(m, 1, name);
            WriteBytes(m, 2, Message(t => WriteBytes(t, 1, tensorType)));
        });
    }

    private static byte[] Message(Action<CodedOutputStream> write)
    {
        using var buffer = new MemoryStream();
        using (var coded = new CodedOutputStream(buffer, leaveOpen: true))
        {
            write(coded);
        }

        return buffer.ToArray();
    }

    private static void WriteMessage(MemoryStream target, int field, byte[] message)
    {
        using var coded = new CodedOutputStream(target, leaveOpen: true);
        coded.WriteTag(field, WireFormat.WireType.LengthDelimited);
        coded.WriteLength(message.Length);
        coded.Flush();
        target.Write(message);
    }

    private static void WriteText(CodedOutputStream m, int field, string text)
    {
        m.WriteTag(field, WireFormat.WireType.LengthDelimited);
        m.WriteString(text);
    }

    private static void WriteBytes(CodedOutputStream m, int field, byte[] bytes)
    {
        m.WriteTag(field, WireFormat.WireType.LengthDelimited);
        m.WriteBytes(UnsafeByteOperations.UnsafeWrap(bytes));
    }
}
