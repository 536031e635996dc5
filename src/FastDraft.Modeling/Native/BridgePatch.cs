using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace FastDraft.Modeling.Native;

/// <summary>
/// TorchSharp's bridge needs one symbol of GCC 13's libstdc++ that older systems lack and do not need
/// (<c>std::ios_base_library_init</c>, no arguments, no result). A copy asks for a harmless libc function instead.
/// </summary>
internal static class BridgePatch
{
    public const string Version = "GLIBCXX_3.4.32";
    private const string Symbol = "_ZSt21ios_base_library_initv";
    private const string Substitute = "sched_yield";

    public static string CachedCopy(string source)
    {
        var bytes = File.ReadAllBytes(source);
        var cache = Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } xdg
            ? xdg : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");
        var folder = Path.Combine(cache, "fastdraft", "native", Convert.ToHexStringLower(SHA256.HashData(bytes)));
        var path = Path.Combine(folder, Path.GetFileName(source));
        if (!File.Exists(path))
        {
            Apply(bytes, source);
            Directory.CreateDirectory(folder);
            var temporary = string.Create(CultureInfo.InvariantCulture, $"{path}.{Environment.ProcessId}.tmp");
            File.WriteAllBytes(temporary, bytes);
            File.Move(temporary, path, overwrite: true);
        }

        return path;
    }

    private static void Apply(byte[] f, string source)
    {
        int U16(long o) => BinaryPrimitives.ReadUInt16LittleEndian(f.AsSpan((int)o));
        long U32(long o) => BinaryPrimitives.ReadUInt32LittleEndian(f.AsSpan((int)o));
        long U64(long o) => BinaryPrimitives.ReadInt64LittleEndian(f.AsSpan((int)o));
        string Text(long o) => Encoding.ASCII.GetString(f.AsSpan((int)o, f.AsSpan((int)o).IndexOf((byte)0)));

        var header = U64(0x28);
        var size = U16(0x3A);
        var names = U64(header + ((long)U16(0x3E) * size) + 0x18);
        var sections = new Dictionary<string, (long Offset, long Size, long Info)>();
        for (var i = 0; i < U16(0x3C); i++)
        {
            var s = header + ((long)i * size);
            sections[Text(names + U32(s))] = (U64(s + 0x18), U64(s + 0x20), U32(s + 0x2C));
        }

        var strings = sections[".dynstr"].Offset;
        var patched = 0;
        var need = sections[".gnu.version_r"].Offset;
        for (var i = 0L; i < sections[".gnu.version_r"].Info; i++)
        {
            var aux = need + U32(need + 8);
            for (var j = 0; j < U16(need + 2); j++, aux += U32(aux + 12))
            {
                if (Text(strings + U32(aux + 8)) == Version)
                {
                    BinaryPrimitives.WriteUInt16LittleEndian(f.AsSpan((int)aux + 4), (ushort)(U16(aux + 4) | 2));
                    patched |= 1;
                }
            }

            need += U32(need + 12);
        }

        var symbols = sections[".dynsym"];
        for (var i = 0L; i < symbols.Size / 24; i++)
        {
            var name = strings + U32(symbols.Offset + (i * 24));
            if (Text(name) == Symbol)
            {
                BinaryPrimitives.WriteUInt16LittleEndian(f.AsSpan((int)(sections[".gnu.version"].Offset + (i * 2))), 1);
                f.AsSpan((int)name, Symbol.Length).Clear();
                Encoding.ASCII.GetBytes(Substitute).CopyTo(f, name);
                patched |= 2;
                break;
            }
        }

        if (patched != 3)
        {
            throw new LibtorchException($"{source} needs {Version}, which this system's libstdc++ lacks, and does not look as expected, so it was not patched. Try a newer Linux (Debian 13, Ubuntu 24.04).");
        }
    }
}
