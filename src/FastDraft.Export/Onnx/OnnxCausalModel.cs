using FastDraft.Modeling.Models;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

namespace FastDraft.Export.Onnx;

/// <summary>An exported ONNX folder on ONNX Runtime's CPU provider, float32.</summary>
public sealed class OnnxCausalModel : ICausalModel
{
    private readonly InferenceSession _session;

    private OnnxCausalModel(DecoderConfig config, InferenceSession session)
    {
        Config = config;
        _session = session;
    }

    /// <summary>Version of ONNX Runtime.</summary>
    public static string RuntimeVersion => OrtEnv.Instance().GetVersionString();

    public DecoderConfig Config { get; }

    public int VocabularySize => Config.VocabularySize;

    public int ContextLength => Config.MaxPositions;

    public long NumParameters => Config.NumParameters;

    /// <summary>Loads model.onnx and config.json of a folder written by <see cref="OnnxModelWriter"/>.</summary>
    /// <exception cref="Modeling.Checkpoints.CheckpointException">The folder has no config.json that can be read.</exception>
    /// <exception cref="ExportException">The runtime refuses the model.</exception>
    public static OnnxCausalModel Load(string folder, int? numThreads = null)
    {
        using var options = new SessionOptions { IntraOpNumThreads = numThreads ?? 0, LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR };
        var config = DecoderConfig.Load(folder);
        try
        {
            return new OnnxCausalModel(config, new InferenceSession(Path.Combine(folder, OnnxModelWriter.ModelName), options));
        }
        catch (OnnxRuntimeException e)
        {
            throw new ExportException($"'{folder}' cannot be loaded by ONNX Runtime {RuntimeVersion}: {e.Message.ReplaceLineEndings(" ")}", "its files are damaged or incomplete: export it again", e);
        }
    }

    public ICausalSession StartSession(int batch = 1, int? capacity = null) => new Session(this, batch, capacity ?? ContextLength);

    public void Dispose() => _session.Dispose();

    private sealed class Session : ICausalSession
    {
        // Ids, mask and positions; the past comes behind them.
        private const int NumFedInputs = 3;

        private readonly OnnxCausalModel _model;
        private readonly int _batch;
        private readonly string[] _inputNames;
        private readonly string[] _outputNames;
        private readonly RunOptions _runOptions = new();
        private readonly OrtValue[] _inputs;

        // What the last call put out; its keys and values are the next one's past. Null before the first.
        private IDisposableReadOnlyCollection<OrtValue>? _results;

        // The past where it is not an output as it is: nothing yet, or fewer rows in the memory of the output.
        private readonly OrtValue?[] _views;
        private int _pastLength;

        public Session(OnnxCausalModel model, int batch, int capacity)
        {
            SessionArguments.CheckStart(model, batch, capacity);
            _model = model;
            _batch = batch;
            Capacity = capacity;
            string[] parts = [.. Enumerable.Range(0, model.Config.NumLayers).SelectMany(i => new[] { $"{i}.key", $"{i}.value" })];
            _inputNames = ["input_ids", "attention_mask", "position_ids", .. parts.Select(p => "past_key_values." + p)];
            _outputNames = ["logits", .. parts.Select(p => "present." + p)];
            _inputs = new OrtValue[_inputNames.Length];
            _views = new OrtValue?[_inputs.Length];
            for (var i = NumFedInputs; i < _inputs.Length; i++)
            {
                _inputs[i] = _views[i] = EmptyPast();
            }
        }

        public int Length { get; private set; }

        public int Capacity { get; }

        public void Forward(ReadOnlySpan<int> tokens, Span<float> logits, int numLogitRows)
        {
            var count = SessionArguments.CheckForward(this, _model.VocabularySize, _batch, tokens, logits, numLogitRows);
            TruncatePast();
            var total = Length + count;
            var ids = new long[_batch * count];
            var positions = new long[ids.Length];
            for (var i = 0; i < ids.Length; i++)
            {
                ids[i] = tokens[i];
                positions[i] = Length + (i % count);
            }

            var mask = new long[_batch * total];
            Array.Fill(mask, 1);
            using var idsValue = _inputs[0] = OrtValue.CreateTensorValueFromMemory(ids, [_batch, count]);
            using var maskValue = _inputs[1] = OrtValue.CreateTensorValueFromMemory(mask, [_batch, total]);
            using var positionsValue = _inputs[2] = OrtValue.CreateTensorValueFromMemory(positions, [_batch, count]);
            var results = _model._session.Run(_runOptions, _inputNames, _inputs, _outputNames);
            ReleasePast();
            _results = results;
            for (var i = NumFedInputs; i < _inputs.Length; i++)
            {
                _inputs[i] = results[i - NumFedInputs + 1];
            }

            Length = _pastLength = total;
            SessionArguments.CopyLastRows(results[0].GetTensorDataAsSpan<float>(), logits, _batch, count, numLogitRows, _model.VocabularySize);
        }

        public void Rollback(int length)
        {
            SessionArguments.CheckRollback(this, length);
            Length = length;
        }

        public void Dispose()
        {
            ReleasePast();
            _runOptions.Dispose();
        }

        private void ReleasePast()
        {
            foreach (var view in _views)
            {
                view?.Dispose();
            }

            Array.Clear(_views);
            _results?.Dispose();
            _results = null;
        }

        private OrtValue EmptyPast() => OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, TensorElementType.Float, PastShape(0));

        private long[] PastShape(int length) => [_batch, _model.Config.NumKeyValueHeads, length, _model.Config.HeadSize];

        // A rollback only notes the length; the rows move together here, in the memory they are in and once, however many rollbacks came before.
        private unsafe void TruncatePast()
        {
            if (Length == _pastLength)
            {
                return;
            }

            var (oldRow, newRow) = (_pastLength * _model.Config.HeadSize, Length * _model.Config.HeadSize);
            for (var i = NumFedInputs; i < _inputs.Length; i++)
            {
                var values = _inputs[i].GetTensorMutableDataAsSpan<float>();
                for (var head = 1; head < _batch * _model.Config.NumKeyValueHeads; head++)
                {
                    values.Slice(head * oldRow, newRow).CopyTo(values[(head * newRow)..]);
                }

                _views[i]?.Dispose();
                fixed (float* start = values)
                {
                    _inputs[i] = _views[i] = Length == 0
                        ? EmptyPast()
                        : OrtValue.CreateTensorValueWithData(OrtMemoryInfo.DefaultInstance, TensorElementType.Float, PastShape(Length), (nint)start, values.Length * sizeof(float));
                }
            }

            _pastLength = Length;
        }
    }
}
