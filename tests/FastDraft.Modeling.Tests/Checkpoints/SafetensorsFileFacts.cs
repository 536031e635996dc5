using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using FastDraft.Modeling.Checkpoints;

namespace FastDraft.Modeling.Tests.Checkpoints;

/// <summary>Hostile and damaged files are refused with a reason, before anything of them is used.</summary>
public sealed class SafetensorsFileFacts : IDisposable
{
    private const string One = """{"dtype":"F32","shape":[2],"data_offsets":[0,8]}""";
    private readonly ScratchFolder _scratch = new();

    public static TheoryData<string, string, int, string> Abuses => new()
    {
        { "not an object", """[1,2,3]""", 0, "does not start with '{'" },
        { "leading space", """ {}""", 0, "does not start with '{'" },
        { "not JSON", """{"a":""", 0, "not valid" },
        { "bytes after the object", $$"""{"a":{{One}}} {}""", 8, "not valid" },
        { "padded with zero bytes", "{}\0\0", 0, "not valid" },
        { "duplicate tensor", $$"""{"a":{{One}},"a":{{One}}}""", 8, "described twice" },
        { "duplicate member", """{"a":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}}""", 8, "two dtypes" },
        { "unknown member", """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"file":"b"}}""", 8, "unknown member" },
        { "overlap", $$$"""{"a":{{{One}}},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}} """, 12, "overlap" },
        { "same range twice", $$"""{"a":{{One}},"b":{{One}}}""", 8, "overlap" },
        { "hole between", $$$"""{"a":{{{One}}},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}} """, 16, "hole" },
        { "hole before the first", """{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}""", 8, "hole" },
        { "negative offset", """{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}""", 8, "lies at bytes" },
        { "reversed range", """{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}""", 8, "lies at bytes" },
        { "offset past the file", """{"a":{"dtype":"F32","shape":[2],"data_offsets":[9223372036854775799,9223372036854775807]}}""", 8, "lies at bytes" },
        { "offset past 64 bits", """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551624]}}""", 8, "not valid" },
        { "fractional offset", """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8.5]}}""", 8, "not valid" },
        { "one offset", """{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}""", 8, "lacks" },
        { "shape overflows", """{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}}""", 8, "impossible shape" },
        { "shape times dtype overflows to the right size", """{"a":{"dtype":"F32","shape":[4611686018427387906],"data_offsets":[0,8]}}""", 8, "impossible shape" },
        { "negative extents with a positive product", """{"a":{"dtype":"F32","shape":[-1,-2],"data_offsets":[0,8]}}""", 8, "impossible shape" },
        { "shape and range disagree", """{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}""", 8, "need 12" },
        { "bytes after the last tensor", $$"""{"a":{{One}}}""", 12, "end at byte" },
        { "truncated data", $$"""{"a":{{One}}}""", 4, "lies at bytes" },
        { "unknown dtype", """{"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}""", 8, "unknown dtype 'F31'" },
        { "dtype is a number", """{"a":{"dtype":32,"shape":[2],"data_offsets":[0,8]}}""", 8, "not valid" },
        { "tensor is a number", """{"a":7}""", 0, "not described by an object" },
        { "deep metadata", """{"__metadata__":""" + new string('[', 100_000) + new string(']', 100_000) + "}", 0, "not valid" },
        { "deep shape", """{"a":{"shape":""" + new string('[', 100_000) + "}}", 0, "not valid" },
    };

    [Theory]
    [MemberData(nameof(Abuses), DisableDiscoveryEnumeration = true)]
    public void An_abusive_file_is_refused_with_its_reason(string abuse, string header, int dataBytes, string reason)
    {
        var path = WriteRaw((ulong)Encoding.UTF8.GetByteCount(header), header, dataBytes);
        var error = Assert.Throws<CheckpointException>(() => SafetensorsFile.Open(path));
        Assert.True(error.Message.Contains(reason, StringComparison.Ordinal), $"{abuse}: {error.Message}");
        Assert.Contains(path, error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(100UL * 1024 * 1024 + 1, "allowed")]
    [InlineData(ulong.MaxValue, "allowed")]
    [InlineData(1UL << 63, "allowed")]
    [InlineData(1000UL, "the file has")]
    [InlineData(0UL, "does not start with '{'")]
    public void A_header_of_an_impossible_size_is_refused(ulong size, string reason)
    {
        var error = Assert.Throws<CheckpointException>(() => SafetensorsFile.Open(WriteRaw(size, "{}", 0)));
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_truncation_of_a_good_file_is_refused()
    {
        var path = _scratch.File("good.safetensors");
        SafetensorsWriter.Write(path, [Tensor("a", "F32", [2, 3], 24), Tensor("b", "U8", [5], 5)]);
        var bytes = File.ReadAllBytes(path);
        var cut = _scratch.File("cut.safetensors");
        for (var length = 0; length < bytes.Length; length++)
        {
            File.WriteAllBytes(cut, bytes[..length]);
            Assert.Throws<CheckpointException>(() => SafetensorsFile.Open(cut));
        }
    }

    [Fact]
    public void Mutations_open_as_a_consistent_file_or_are_refused()
    {
        // FASTDRAFT_FULL=1 runs the full count.
        var numMutations = Environment.GetEnvironmentVariable("FASTDRAFT_FULL") == "1" ? 50_000 : 2_000;
        const int Seed = 20261124;
        var random = new Random(Seed);
        var path = _scratch.File("good.safetensors");
        SafetensorsWriter.Write(path, [Tensor("a", "F32", [2, 3], 24), Tensor("b", "BF16", [5], 10), Tensor("c", "U8", [2], 2)], new Dictionary<string, string> { ["format"] = "pt" });
        var good = File.ReadAllBytes(path);
        var alphabet = "{}[]\":,0123456789-eE.abF32\\ \0\u00ff"u8.ToArray();
        var (opened, mutant) = (0, _scratch.File("mutant.safetensors"));
        for (var i = 0; i < numMutations; i++)
        {
            var bytes = good.ToList();
            for (var edits = 1 + random.Next(3); edits > 0; edits--)
            {
                var at = random.Next(bytes.Count);
                switch (random.Next(4))
                {
                    case 0: bytes[at] = alphabet[random.Next(alphabet.Length)]; break;
                    case 1: bytes[at] ^= (byte)(1 << random.Next(8)); break;
                    case 2: bytes.RemoveAt(at); break;
                    default: bytes.Insert(at, alphabet[random.Next(alphabet.Length)]); break;
                }
            }

            File.WriteAllBytes(mutant, [.. bytes]);
            try
            {
                using var file = SafetensorsFile.Open(mutant);
                Assert.True(file.Tensors.Values.All(t => t.Offset + t.LengthBytes <= bytes.Count && file.Bytes(t.Name).Length == t.LengthBytes), $"seed {Seed}, mutation {i}");
                opened++;
            }
            catch (CheckpointException)
            {
                // Refused with its reason: anything else ends the test.
            }
        }

        Assert.InRange(opened, 1, numMutations * 4 / 5);
    }

    [Fact]
    public void A_missing_file_is_named()
    {
        var error = Assert.Throws<CheckpointException>(() => SafetensorsFile.Open(_scratch.File("none.safetensors")));
        Assert.Contains("none.safetensors", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_is_written_is_read_back_bit_for_bit()
    {
        float[] values = [0, -0f, 1.5f, float.MaxValue, float.Epsilon, float.NaN];
        ushort[] words = [0x3f80, 0xbf80, 0x7f80, 0x0001];
        var path = _scratch.File("model.safetensors");
        SafetensorsTensor[] tensors =
        [
            new("wide", "F32", [2, 3], MemoryMarshal.AsBytes(values.AsSpan()).ToArray()),
            new("scalar", "I64", [], new byte[8]),
            new("empty", "F32", [0, 4], Array.Empty<byte>()),
            new("brain \"quoted\"", "BF16", [4], MemoryMarshal.AsBytes(words.AsSpan()).ToArray()),
        ];
        SafetensorsWriter.Write(path, tensors, new Dictionary<string, string> { ["format"] = "pt" });
        SafetensorsWriter.Write(path, tensors, new Dictionary<string, string> { ["format"] = "pt" });

        using var file = SafetensorsFile.Open(path);
        Assert.Equal(tensors.Select(t => t.Name), file.Tensors.Keys);
        foreach (var tensor in tensors)
        {
            Assert.Equal(tensor.Dtype, file.Tensors[tensor.Name].Dtype);
            Assert.Equal(tensor.Shape, file.Tensors[tensor.Name].Shape);
            Assert.True(tensor.Bytes.Span.SequenceEqual(file.Bytes(tensor.Name)));
        }

        var wide = new float[6];
        file.ReadFloat32("wide", wide);
        Assert.Equal(values.Select(BitConverter.SingleToUInt32Bits), wide.Select(BitConverter.SingleToUInt32Bits));
        var brain = new float[4];
        file.ReadFloat32(tensors[3].Name, brain);
        Assert.Equal([1f, -1f, float.PositiveInfinity, BitConverter.UInt32BitsToSingle(0x10000)], brain);
        Assert.Throws<CheckpointException>(() => file.ReadFloat32("wide", new float[5]));
        Assert.Throws<CheckpointException>(() => file.ReadFloat32("scalar", new float[1]));
        Assert.Throws<CheckpointException>(() => file.Bytes("absent").Length);
        Assert.Equal(0, file.Tensors.Values.Min(t => t.Offset) % 8);
        Assert.Equal([path], Directory.GetFiles(_scratch.Path));
    }

    public void Dispose() => _scratch.Dispose();

    private static SafetensorsTensor Tensor(string name, string dtype, long[] shape, int bytes) => new(name, dtype, shape, new byte[bytes]);

    private string WriteRaw(ulong size, string header, int dataBytes)
    {
        var path = _scratch.File("raw.safetensors");
        var text = Encoding.UTF8.GetBytes(header);
        var bytes = new byte[8 + text.Length + dataBytes];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, size);
        text.CopyTo(bytes, 8);
        File.WriteAllBytes(path, bytes);
        return path;
    }
}
