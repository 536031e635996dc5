using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using FastDraft.Export.Tokenizers;

namespace FastDraft.Export.OpenVino;

/// <summary>
/// Writes a tokenizer.json as the two models that OpenVINO GenAI loads beside every model: text to ids with the ids of the template, and
/// ids to text. They consist of operations of OpenVINO's tokenizer extension, which work on UTF-8 bytes; each text is a row of a ragged
/// tensor (begins, ends) whose pieces are (begins, ends) in one vector of bytes.
/// </summary>
internal static class OpenVinoTokenizerWriter
{
    public const string TokenizerName = "openvino_tokenizer";
    public const string DetokenizerName = "openvino_detokenizer";

    private const string Gpt2Pattern = @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    // The release whose operations these are. Without one OpenVINO GenAI takes a tokenizer for one too old to do without special tokens.
    private const string OperationsVersion = "2026.4.1.0";

    // The largest length that the extension's arithmetic in float32 leaves positive.
    private const int Unlimited = int.MaxValue - 64;

    private const string I32 = "I32", U8 = "U8", Bool = "BOOL";

    /// <exception cref="ExportException">The tokenizer has a part that the extension has no operation for.</exception>
    public static void Write(TokenizerDefinition tokenizer, string outputFolder)
    {
        (string, string)[] information =
        [
            ("openvino_tokenizers_version", OperationsVersion),
            ("add_special_tokens", "True"),
            ("skip_special_tokens", "True"),
            .. tokenizer.Tokenizer.BosTokenId is { } bos ? new[] { ("bos_token_id", $"{bos}") } : [],
            .. tokenizer.Tokenizer.EosTokenId is { } eos ? new[] { ("eos_token_id", $"{eos}") } : [],
            .. tokenizer.ChatTemplate is { } template ? new[] { ("chat_template", template) } : [],
        ];
        Save(TokenizerName, graph => new TokenizerGraph(graph, tokenizer).Build());
        Save(DetokenizerName, graph => Detokenizer(graph, tokenizer));

        void Save(string name, Action<IrGraph> build)
        {
            using var weights = File.Create(Path.Combine(outputFolder, name + ".bin"));
            var graph = new IrGraph(weights);
            build(graph);
            graph.Save(Path.Combine(outputFolder, name + ".xml"), name["openvino_".Length..], information);
        }
    }

    private static ExportException Unsupported(TokenizerDefinition tokenizer, string what) => new(
        $"The tokenizer of '{tokenizer.Folder}' cannot be written for OpenVINO: its tokenizer.json has {what}, for which OpenVINO's tokenizer extension has no operation.",
        "--format onnx or gguf, or openvino_tokenizers' own converter");

    /// <summary>Texts as three vectors: begins, ends, bytes.</summary>
    private static IrValue[] Texts(IrGraph graph, string name, IReadOnlyList<byte[]> texts)
    {
        var (begins, ends, at) = (new int[texts.Count], new int[texts.Count], 0);
        for (var i = 0; i < texts.Count; i++)
        {
            begins[i] = at;
            ends[i] = at += texts[i].Length;
        }

        return [graph.Integers(name + ".begins", begins), graph.Integers(name + ".ends", ends), graph.Bytes(name + ".bytes", [.. texts.SelectMany(t => t)])];
    }

    private static IrValue Text(IrGraph graph, string name, string text) => graph.Bytes(name, Encoding.UTF8.GetBytes(text));

    private static void Detokenizer(IrGraph graph, TokenizerDefinition tokenizer)
    {
        var (bytes, startPattern) = DecodedTokens(tokenizer);
        var ids = graph.Add("Convert", 1, [-1, -1], [graph.Parameter("ids", "i64", -1, -1)], [("destination_type", "i32")], I32);
        var skipped = graph.Integers("skipped", [.. tokenizer.Added.Where(t => t.Special).Select(t => t.Id)]);
        var pieces = graph.AddVectors("VocabDecoder", null, [ids, .. Texts(graph, "tokens", bytes), skipped], [I32, I32, I32, I32, U8], ("skip_tokens", ""));
        var rows = graph.AddVectors("FuzeRagged", null, pieces[..4], [I32, I32]);
        IrValue[] text = [rows[0], rows[1], pieces[4]];
        if (startPattern is not null)
        {
            text = graph.AddVectors(
                "RegexNormalization", null, [.. text, Text(graph, "start", startPattern), Text(graph, "nothing", "")], [I32, I32, U8], ("global_replace", "true"));
        }

        text = graph.AddVectors("UTF8Validate", null, text, [I32, I32, U8], ("replace_mode", "true"));
        graph.Result(graph.AddVectors("StringTensorPack", 15, text, ["STRING"])[0], "string_output");
    }

    /// <summary>What each token adds to a text, and the pattern of what is then taken from its start.</summary>
    private static (byte[][] Bytes, string? StartPattern) DecodedTokens(TokenizerDefinition tokenizer)
    {
        if (tokenizer.Decoder is null)
        {
            throw Unsupported(tokenizer, "no decoder");
        }

        string? startPattern = null;
        var texts = tokenizer.Tokens.Select(t => t ?? string.Empty).ToArray();
        var bytes = new byte[]?[texts.Length];
        var fused = false;
        foreach (var step in TokenizerDefinition.Steps(tokenizer.Decoder, "decoders"))
        {
            switch (TokenizerDefinition.TypeOf(step))
            {
                case "ByteLevel":
                    Each(i => bytes[i] = TokenBytes.FromByteLevel(texts[i]));
                    break;
                case "ByteFallback":
                    Each(i => bytes[i] = TokenBytes.ByteOf(texts[i]) is { } value ? [value] : null);
                    break;
                case "Fuse":
                    fused = true;
                    break;
                case "Replace" when !fused && TokenizerDefinition.Literal(step) is { Length: > 0 } literal:
                    Each(i => texts[i] = texts[i].Replace(literal, step["content"]!.GetValue<string>(), StringComparison.Ordinal));
                    break;
                case "Metaspace" when !fused:
                    Each(i => texts[i] = texts[i].Replace(step["replacement"]!.GetValue<string>(), " ", StringComparison.Ordinal));
                    startPattern = step["prepend_scheme"]?.GetValue<string>() == "never" ? null : "^ ";
                    break;
                case "Strip" when fused && startPattern is null && step["stop"]!.GetValue<int>() == 0:
                    startPattern = $"^{Regex.Escape(step["content"]!.GetValue<string>())}{{1,{step["start"]!.GetValue<int>()}}}";
                    break;
                default:
                    throw Unsupported(tokenizer, $"a decoder '{TokenizerDefinition.TypeOf(step)}' at this place");
            }
        }

        return ([.. texts.Select((t, i) => bytes[i] ?? Encoding.UTF8.GetBytes(t))], startPattern);

        void Each(Action<int> change)
        {
            for (var i = 0; i < texts.Length; i++)
            {
                change(i);
            }
        }
    }

    private sealed class TokenizerGraph(IrGraph graph, TokenizerDefinition tokenizer)
    {
        // Rows of pieces, the pieces, their bytes, and once special tokens are found whether a piece is one, which later steps leave alone.
        private IrValue[] _rows = [];
        private IrValue[] _pieces = [];
        private IrValue[] _isSpecial = [];
        private int _numPatterns;

        public void Build()
        {
            var texts = graph.AddVectors("StringTensorUnpack", 15, [graph.Parameter("text", "string", -1)], [I32, I32, U8]);
            var count = graph.Add(
                "Gather", 8, [], [graph.Add("ShapeOf", 3, [1], [texts[0]], [("output_type", "i64")], "I64"), graph.Scalar(0L), graph.Scalar(0L)], [("batch_dims", "0")]);
            var next = graph.Add("Add", 1, [], [count, graph.Scalar(1L)], [("auto_broadcast", "numpy")]);
            _rows = [Range(graph.Scalar(0L), count), Range(graph.Scalar(1L), next)];
            _pieces = texts;
            PrependToText();
            FindAddedTokens();
            foreach (var step in TokenizerDefinition.Steps(tokenizer.Normalizer, "normalizers"))
            {
                Normalize(step);
            }

            foreach (var step in TokenizerDefinition.Steps(tokenizer.PreTokenizer, "pretokenizers"))
            {
                Cut(step);
            }

            Results(WithTemplate(Merge()));
        }

        private IrValue Range(IrValue start, IrValue stop) => graph.Add("Range", 4, [-1], [start, stop, graph.Scalar(1L)], [("output_type", "i32")], I32);

        // A mark before the first word only is one before the whole text, which must be set before the text is cut at added tokens.
        private void PrependToText()
        {
            foreach (var step in TokenizerDefinition.Steps(tokenizer.PreTokenizer, "pretokenizers").Where(s => s["prepend_scheme"]?.GetValue<string>() == "first"))
            {
                var mark = step["replacement"]!.GetValue<string>();
                Replace($"^(?!{string.Join('|', tokenizer.Added.Select(t => Quoted(t.Content)).Append(mark).Append(" "))})([\\s\\S])", Replacement(mark) + "$1");
            }
        }

        private void FindAddedTokens()
        {
            // Of two tokens that begin at one place the longer is meant; the group is what remains of the spaces around it.
            var pattern = string.Join('|', tokenizer.Added.Where(t => t.Content.Length > 0)
                .OrderByDescending(t => Encoding.UTF8.GetByteCount(t.Content)).ThenBy(t => t.Content, StringComparer.Ordinal)
                .Select(t => (t.StripLeft ? @"(?:\s*)" : "") + (t.SingleWord ? @"(?<!\w)" : "")
                    + (t.StripLeft || t.StripRight ? $"({Quoted(t.Content)})" : Quoted(t.Content)) + (t.SingleWord ? @"(?!\w)" : "") + (t.StripRight ? @"(?:\s*)" : "")));
            if (pattern.Length == 0)
            {
                return;
            }

            var found = graph.AddVectors("SpecialTokensSplit", null, [.. _rows, .. _pieces, Text(graph, "added", pattern)], [I32, I32, I32, I32, U8, Bool]);
            (_rows, _pieces, _isSpecial) = (found[..2], found[2..5], found[5..]);
        }

        private void Normalize(JsonObject step)
        {
            switch (TokenizerDefinition.TypeOf(step))
            {
                case "Prepend":
                    Replace(@"(?:^)([\s\S])", Replacement(step["prepend"]!.GetValue<string>()) + "$1");
                    break;
                case "Replace":
                    Replace(TokenizerDefinition.Literal(step) is { } literal ? Quoted(literal) : step["pattern"]!["Regex"]!.GetValue<string>(), Replacement(step["content"]!.GetValue<string>()));
                    break;
#pragma warning disable CA1308 // The attribute's values are lower case.
                case "NFC" or "NFD" or "NFKC" or "NFKD" when TokenizerDefinition.TypeOf(step) is var form:
                    var changed = graph.AddVectors(
                        "CharsMapNormalization",
                        null,
                        [.. _pieces, .. _isSpecial],
                        [I32, I32, U8, .. _isSpecial.Select(_ => Bool)],
                        ("add_dummy_prefix", "false"),
                        ("remove_extra_whitespaces", "false"),
                        ("escape_whitespaces", "false"),
                        ("normalization_form", form.ToLowerInvariant()),
                        ("case_fold", "false"),
                        ("nmt", "false"));
#pragma warning restore CA1308
                    (_pieces, _isSpecial) = (changed[..3], changed[3..]);
                    break;
                default:
                    throw Unsupported(tokenizer, $"a normalizer '{TokenizerDefinition.TypeOf(step)}'");
            }
        }

        private void Cut(JsonObject step)
        {
            switch (TokenizerDefinition.TypeOf(step))
            {
                case "ByteLevel":
                    if (TokenizerDefinition.Flag(step, "add_prefix_space", otherwise: true))
                    {
                        Replace("^([^ ])", " $1");
                    }

                    if (TokenizerDefinition.Flag(step, "use_regex", otherwise: true))
                    {
                        Split(Gpt2Pattern, "isolate");
                    }

                    break;
                case "Split":
                    Split(
                        TokenizerDefinition.Literal(step) is { } literal ? Quoted(literal) : step["pattern"]!["Regex"]!.GetValue<string>(),
                        step["behavior"]!.GetValue<string>() switch
                        {
                            "Isolated" => "isolate",
                            "Removed" => "remove",
                            "MergedWithPrevious" => "mergedwithprevious",
                            "MergedWithNext" => "mergedwithnext",
                            _ => "contiguous",
                        },
                        TokenizerDefinition.Flag(step, "invert"));
                    break;
                case "Digits":
                    Split(TokenizerDefinition.Flag(step, "individual_digits") ? @"\p{N}" : @"\p{N}+", "isolate");
                    break;
                case "Metaspace":
                    var mark = step["replacement"]!.GetValue<string>();
                    Replace(" ", Replacement(mark));
                    if ((step["prepend_scheme"]?.GetValue<string>() ?? (TokenizerDefinition.Flag(step, "add_prefix_space", otherwise: true) ? "always" : "never")) == "always")
                    {
                        Replace($"^(?!{Quoted(mark)})([\\s\\S])", Replacement(mark) + "$1");
                    }

                    if (TokenizerDefinition.Flag(step, "split", otherwise: true))
                    {
                        Split(Quoted(mark), "mergedwithnext");
                    }

                    break;
                default:
                    throw Unsupported(tokenizer, $"a pre-tokenizer '{TokenizerDefinition.TypeOf(step)}'");
            }
        }

        private void Replace(string pattern, string replacement)
        {
            var n = _numPatterns++;
            var changed = graph.AddVectors(
                "RegexNormalization",
                null,
                [.. _pieces, .. _isSpecial, Text(graph, $"pattern{n}", pattern), Text(graph, $"replacement{n}", replacement)],
                [I32, I32, U8, .. _isSpecial.Select(_ => Bool)],
                ("global_replace", "true"));
            (_pieces, _isSpecial) = (changed[..3], changed[3..]);
        }

        private void Split(string pattern, string behaviour, bool invert = false)
        {
            var cut = graph.AddVectors(
                "RegexSplit",
                null,
                [.. _rows, .. _pieces, .. _isSpecial, Text(graph, $"pattern{_numPatterns++}", pattern)],
                [I32, I32, I32, I32, U8, .. _isSpecial.Select(_ => Bool)],
                ("behaviour", behaviour),
                ("invert", invert ? "true" : "false"),
                ("max_splits", "-1"));
            (_rows, _pieces, _isSpecial) = (cut[..2], cut[2..5], cut[5..]);
        }

        /// <summary>Rows of ids: begins, ends, ids.</summary>
        private IrValue[] Merge()
        {
            var vocabulary = TokenBytes.ForMerging(tokenizer);
            var known = vocabulary.ToHashSet(ByteArrays.Instance);
            var (left, right) = (new List<byte[]>(), new List<byte[]>());
            foreach (var (a, b) in tokenizer.Merges)
            {
                var (x, y) = (TokenBytes.Of(tokenizer, a), TokenBytes.Of(tokenizer, b));
                if (x is null || y is null || !known.Contains(x) || !known.Contains(y) || !known.Contains([.. x, .. y]))
                {
                    throw Unsupported(tokenizer, $"a merge of '{a}' and '{b}', not all of which are plain tokens");
                }

                left.Add(x);
                right.Add(y);
            }

            IrValue[] added = tokenizer.Added.Count == 0
                ? []
                : [.. Texts(graph, "addedTokens", [.. tokenizer.Added.Select(t => Encoding.UTF8.GetBytes(t.Content))]), graph.Integers("addedIds", [.. tokenizer.Added.Select(t => t.Id)])];
            return graph.AddVectors(
                "BPETokenizer",
                null,
                [.. _rows, .. _pieces, .. Texts(graph, "vocabulary", vocabulary), .. Texts(graph, "left", left), .. Texts(graph, "right", right), .. added],
                [I32, I32, I32],
                ("unk_token", tokenizer.UnknownToken ?? string.Empty),
                ("fuse_unk", tokenizer.FuseUnknown ? "true" : "false"),
                ("suffix_indicator", ""),
                ("end_suffix", ""),
                ("byte_fallback", "false"),
                ("cache_capacity", "20000"));
        }

        private IrValue[] WithTemplate(IrValue[] ids)
        {
            var (before, after) = (tokenizer.Tokenizer.TemplatePrefix, tokenizer.Tokenizer.TemplateSuffix);

            // OpenVINO GenAI tells the text's own ids from the template's by this operation, and sets its length when asked to.
            var truncated = graph.AddVectors(
                "Truncate",
                null,
                [.. ids, graph.Scalar(Unlimited - before.Count - after.Count), Text(graph, "side", "right"), Text(graph, "mode", "longest_first")],
                [I32, I32, I32],
                ("m_num_inputs", "1"));
            IrValue[] segments = [.. Segment("before", before), .. truncated, .. Segment("after", after)];
            var kinds = graph.Integers("segments", new int[segments.Length / 3]);
            return graph.AddVectors("CombineSegments", null, [.. segments, kinds], [I32, I32, I32, I32, I32, I32]);

            IrValue[] Segment(string name, IReadOnlyList<int> template) =>
                template.Count == 0 ? [] : [graph.Scalar(0), graph.Scalar(template.Count), graph.Integers(name, [.. template])];
        }

        private void Results(IrValue[] ids)
        {
            var lengths = graph.Add("Subtract", 1, [-1], [ids[1], ids[0]], [("auto_broadcast", "numpy")]);
            var longest = graph.Add("ReduceMax", 1, [], [lengths, graph.Scalar(0)], [("keep_dims", "false")]);
            var dense = graph.AddMixed(
                "RaggedToDense", null, [.. ids[..3], longest, graph.Scalar(0)], [(I32, [-1, -1]), (Bool, [-1, -1])], ("pad_right", "true"), ("m_pad_max_length", "false"));
            graph.Result(Long(dense[0], "input_ids"), "input_ids");
            graph.Result(Long(graph.Add("Convert", 1, [-1, -1], [dense[1]], [("destination_type", "i32")], I32), "attention_mask"), "attention_mask");
        }

        private IrValue Long(IrValue x, string name) => graph.Add("Convert", 1, [-1, -1], [x], [("destination_type", "i64")], "I64", name);

        /// <summary>A literal in a pattern.</summary>
        private static string Quoted(string text) => Regex.Replace(text, @"[\\^$.|?*+()\[\]{}#\s-]", m => m.Value == " " ? " " : m.Value == "-" ? "\\-" : char.IsWhiteSpace(m.Value[0]) ? $"\\x{(int)m.Value[0]:x2}" : "\\" + m.Value);

        /// <summary>A literal in a replacement.</summary>
        private static string Replacement(string text) => text.Replace("$", "$$", StringComparison.Ordinal);
    }
}
