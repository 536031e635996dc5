using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using FastDraft.Core.Stages;
using FastDraft.Modeling.Cpu;
using FastDraft.Modeling.Decoding;
using FastDraft.Modeling.Models;
using FastDraft.Modeling.Tokenization;

namespace FastDraft.Cli.Commands;

/// <summary><c>fastdraft generate</c>: text from a model folder, with a draft or without, streamed.</summary>
internal static class GenerateCommand
{
    public static Command Build()
    {
        var model = new Option<string>("--model") { Description = "Folder of the (target) model", Required = true };
        var draft = new Option<string?>("--draft") { Description = "Folder of a draft model" };
        var prompt = new Option<string?>("--prompt") { Description = "Prompt text" };
        var promptIds = new Option<string?>("--prompt-ids") { Description = "Prompt as token ids: 1,2,3" };
        var maxTokens = new Option<int>("--max-tokens") { Description = "Tokens to write", DefaultValueFactory = _ => 128 };
        var temperature = new Option<double>("--temperature") { Description = "0 is greedy", DefaultValueFactory = _ => 0 };
        var draftLength = new Option<int>("--draft-length") { Description = "Tokens drafted per block (gamma)", DefaultValueFactory = _ => 4 };
        var seed = new Option<long>("--seed") { Description = "Seed of sampling", DefaultValueFactory = _ => 0 };
        var ignoreEos = new Option<bool>("--ignore-eos") { Description = "Go on after an end-of-sequence token" };
        var command = new Command("generate", "Write text with a model, with a draft model or without")
        {
            model, draft, prompt, promptIds, maxTokens, temperature, draftLength, seed, ignoreEos, SharedOptions.Format,
        };
        command.SetAction((parsed, token) => CliErrors.GuardAsync(() => Task.FromResult(Run(new Request(
            parsed.GetValue(model)!, parsed.GetValue(draft), parsed.GetValue(prompt), parsed.GetValue(promptIds), parsed.GetValue(maxTokens),
            parsed.GetValue(temperature), parsed.GetValue(draftLength), parsed.GetValue(seed), parsed.GetValue(ignoreEos), SharedOptions.IsJson(parsed)), token))));
        return command;
    }

    private static int Run(Request request, CancellationToken cancellationToken)
    {
        if (request.Prompt is null == request.PromptIds is null)
        {
            throw new CliException(ExitCode.Config, "Give either --prompt or --prompt-ids.", "fastdraft generate --model FOLDER --prompt \"Once upon a time\"");
        }

        if (request.MaxTokens < 1 || request.Temperature < 0 || request.DraftLength < 0)
        {
            throw new CliException(ExitCode.Config, "--max-tokens must be at least 1; --temperature and --draft-length at least 0.");
        }

        foreach (var folder in new[] { request.Model, request.Draft }.OfType<string>())
        {
            if (!Directory.Exists(folder))
            {
                throw new CliException(ExitCode.Config, $"Model folder '{folder}' does not exist.", "a Hugging Face folder with config.json, *.safetensors and tokenizer.json");
            }
        }

        var tokenizer = HasTokenizer(request.Model) ? HuggingFaceTokenizer.Load(request.Model) : null;
        var config = DecoderConfig.Load(request.Model);
        var promptIds = request.Prompt is { } text
            ? (tokenizer ?? throw new CliException(ExitCode.Config, $"'{request.Model}' has no tokenizer.json.", "--prompt-ids 1,2,3")).Encode(text, addSpecialTokens: true)
            : ParseIds(request.PromptIds!, config.VocabularySize);
        if (promptIds.Length == 0)
        {
            throw new CliException(ExitCode.Config, "The prompt has no tokens.", "a prompt of at least one token");
        }

        using var target = CpuCausalModel.Load(request.Model);
        using var draft = request.Draft is null ? null : CpuCausalModel.Load(request.Draft, rounded: true);
        if (draft is not null && draft.VocabularySize != target.VocabularySize)
        {
            throw new CliException(ExitCode.Data, $"The draft's vocabulary has {draft.VocabularySize} tokens, the target's {target.VocabularySize}.", "a draft made for this target");
        }

        if (request.Draft is not null && tokenizer is not null && HasTokenizer(request.Draft) && HuggingFaceTokenizer.Load(request.Draft).VocabularyDigest() != tokenizer.VocabularyDigest())
        {
            throw new CliException(ExitCode.Data, $"The draft's tokens are not those of '{request.Model}': it was made with another tokenizer.", "a draft made for this target");
        }

        var options = new GenerationOptions
        {
            MaxNewTokens = request.MaxTokens,
            Temperature = request.Temperature,
            DraftLength = draft is null ? 0 : request.DraftLength,
            Seed = unchecked((ulong)request.Seed),
            IgnoreEos = request.IgnoreEos,
            EosTokenIds = config.EosTokenIds,
        };
        var printer = request.Json || tokenizer is null ? null : new StreamPrinter(tokenizer);
        void OnToken(int id)
        {
            cancellationToken.ThrowIfCancellationRequested();
            printer?.Add(id);
        }

        var started = Stopwatch.GetTimestamp();
        var result = draft is null
            ? new PlainDecoder(target).Generate(promptIds, options, OnToken)
            : new SpeculativeDecoder(target, draft).Generate(promptIds, options, OnToken);
        var tokensPerSecond = result.Ids.Length / Stopwatch.GetElapsedTime(started).TotalSeconds;
        if (request.Json)
        {
            Output.WriteJson(new
            {
                promptIds,
                ids = result.Ids,
                text = tokenizer?.Decode(result.Ids),
                tokensPerSecond,
                drafted = draft is null ? null : (int?)result.Blocks.Sum(b => b.Drafted),
                accepted = draft is null ? null : (int?)result.Blocks.Sum(b => b.Accepted),
                blocks = draft is null ? null : (int?)result.Blocks.Count,
            });
        }
        else
        {
            Console.Out.WriteLine(tokenizer is null ? string.Join(',', result.Ids) : string.Empty);
            Console.Error.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{result.Ids.Length} tokens, {tokensPerSecond:F0} tokens/s") + (draft is null
                ? string.Empty
                : $", {result.Blocks.Sum(b => b.Accepted)} of {result.Blocks.Sum(b => b.Drafted)} drafted tokens accepted in {result.Blocks.Count} blocks"));
        }

        return ExitCode.Ok;
    }

    private static bool HasTokenizer(string folder) => File.Exists(Path.Join(folder, "tokenizer.json"));

    private static int[] ParseIds(string text, int vocabularySize) => [.. text.Split(',').Select(part =>
        int.TryParse(part, NumberStyles.Integer, CultureInfo.InvariantCulture, out var id) && id >= 0 && id < vocabularySize
            ? id
            : throw new CliException(ExitCode.Config, $"--prompt-ids: '{part}' is not a token id from 0 to {vocabularySize - 1}.", "--prompt-ids 1,2,3"))];

    private sealed record Request(
        string Model, string? Draft, string? Prompt, string? PromptIds, int MaxTokens, double Temperature, int DraftLength, long Seed, bool IgnoreEos, bool Json);

    /// <summary>
    /// Prints text as soon as its characters are whole: a token may end inside a UTF-8 sequence. Only the last tokens are decoded again,
    /// or a long text would cost the square of its length.
    /// </summary>
    private sealed class StreamPrinter(HuggingFaceTokenizer tokenizer)
    {
        private const int Window = 16;

        private readonly List<int> _recent = [];
        private string _printed = string.Empty;

        public void Add(int id)
        {
            _recent.Add(id);
            var text = tokenizer.Decode(_recent);
            if (text.Length > _printed.Length && text[^1] != '\uFFFD' && text.StartsWith(_printed, StringComparison.Ordinal))
            {
                Console.Out.Write(text.AsSpan(_printed.Length));
                Console.Out.Flush();
                _printed = text;
                if (_recent.Count > Window)
                {
                    // The last token stays as context: a decoder may treat the first token of a text in its own way.
                    _recent.RemoveRange(0, _recent.Count - 1);
                    _printed = tokenizer.Decode(_recent);
                }
            }
        }
    }
}
