using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace FastDraft.Modeling.Native;

/// <summary>
/// TorchSharp's bridge asks for GLIBCXX_3.4.32 for one symbol that takes nothing and returns nothing
/// (<c>_ZSt21ios_base_library_initv</c>; older libstdc++ initialises iostreams by itself). In a cached copy this makes the version
/// weak, the symbol unversioned, and its name that of a harmless libc function. The original file is never touched.
/// </summary>
internal static class GlibcxxRemedy
{
    private const string Version = "GLIBCXX_3.4.32";
    private const string Symbol = "_ZSt21ios_base_library_initv";
    private const string Harmless = "sched_yield";
    private const uint SectionVersionNeeds = 0x6ffffffe;
    private const uint SectionVersionSymbols = 0x6fffffff;
    private const uint SectionDynamicSymbols = 11;

    /// <summary>Path of the patched copy, made on first use under the user's cache folder.</summary>
    public static string Apply(string library)
    {
        var bytes = File.ReadAllBytes(library);
        var cache = Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } configured
            ? configured
            : Path.Join(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");
        var folder = Path.Join(cache, "fastdraft", "native", Convert.ToHexStringLower(SHA256.HashData(bytes)));
        var patched = Path.Join(folder, Path.GetFileName(library));
        if (File.Exists(patched))
        {
            return patched;
        }

        Patch(bytes);
        Directory.CreateDirectory(folder);
        var temporary = patched + "." + Environment.ProcessId;
        File.WriteAllBytes(temporary, bytes);
        File.Move(temporary, patched, overwrite: true); // Atomic: a reader sees the whole copy or none.
        return patched;
    }

    private static void Patch(Span<byte> elf)
    {
        var sections = Sections(elf);
        var symbols = sections.Single(s => s.Type == SectionDynamicSymbols);
        var strings = sections[(int)symbols.Link];
        var needs = sections.Single(s => s.Type == SectionVersionNeeds);
        var versions = sections.Single(s => s.Type == SectionVersionSymbols);

        var need = needs.Offset;
        while (true)
        {
            var auxiliary = need + (int)U32(elf, need + 8);
            while (true)
            {
                if (Text(elf, strings.Offset + (int)U32(elf, auxiliary + 8)) == Version)
                {
                    const ushort Weak = 2;
                    BinaryPrimitives.WriteUInt16LittleEndian(elf[(auxiliary + 4)..], (ushort)(U16(elf, auxiliary + 4) | Weak));
                }

                var next = (int)U32(elf, auxiliary + 12);
                if (next == 0)
                {
                    break;
                }

                auxiliary += next;
            }

            var following = (int)U32(elf, need + 12);
            if (following == 0)
            {
                break;
            }

            need += following;
        }

        const int SymbolSize = 24;
        for (var i = 0; i < symbols.Size / SymbolSize; i++)
        {
            var name = strings.Offset + (int)U32(elf, symbols.Offset + (i * SymbolSize));
            if (Text(elf, name) == Symbol)
            {
                const ushort Global = 1;
                BinaryPrimitives.WriteUInt16LittleEndian(elf[(versions.Offset + (i * 2))..], Global);
                Encoding.ASCII.GetBytes(Harmless + "\0").CopyTo(elf[name..]);
                return;
            }
        }

        throw new DllNotFoundException($"libLibTorchSharp does not load and does not need {Version}: its failure has another reason.");
    }

    private static List<Section> Sections(ReadOnlySpan<byte> elf)
    {
        var table = (int)BinaryPrimitives.ReadInt64LittleEndian(elf[0x28..]);
        var size = U16(elf, 0x3a);
        var count = U16(elf, 0x3c);
        var sections = new List<Section>(count);
        for (var i = 0; i < count; i++)
        {
            var header = table + (i * size);
            sections.Add(new Section(
                U32(elf, header + 4),
                (int)BinaryPrimitives.ReadInt64LittleEndian(elf[(header + 0x18)..]),
                (int)BinaryPrimitives.ReadInt64LittleEndian(elf[(header + 0x20)..]),
                U32(elf, header + 0x28)));
        }

        return sections;
    }

    private static ushort U16(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt16LittleEndian(bytes[offset..]);

    private static uint U32(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[offset..]);

    private static string Text(ReadOnlySpan<byte> bytes, int offset)
    {
        var rest = bytes[offset..];
        return Encoding.ASCII.GetString(rest[..rest.IndexOf((byte)0)]);
    }

    private sealed record Section(uint Type, int Offset, int Size, uint Link);
}
