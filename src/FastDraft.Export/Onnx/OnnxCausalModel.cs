using FastDraft.Modeling.Models;
using Microsoft.ML.OnnxRuntime;

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
        private readonly OnnxCausalModel _model;
        private readonly int _batch;
        private readonly string[] _inputNames;
        private readonly string[] _outputNames;
        private readonly RunOptions _runOptions = new();
        private readonly List<OrtValue> _past = [];
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
            foreach (var _ in parts)
            {
                _past.Add(EmptyPast(0));
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
            using var idsValue = OrtValue.CreateTensorValueFromMemory(ids, [_batch, count]);
            using var maskValue = OrtValue.CreateTensorValueFromMemory(mask, [_batch, total]);
            using var positionsValue = OrtValue.CreateTensorValueFromMemory(positions, [_batch, count]);
            using var results = _model._session.Run(_runOptions, _inputNames, [idsValue, maskValue, positionsValue, .. _past], _outputNames);
            SessionArguments.CopyLastRows(results[0].GetTensorDataAsSpan<float>(), logits, _batch, count, numLogitRows, _model.VocabularySize);

            for (var i = 0; i < _past.Count; i++)
            {
                _past[i].Dispose();

                // The result list disposes its values, so the cache keeps a copy.
                _past[i] = Copy(results[i + 1]);
            }

            Length = _pastLength = total;
        }

        public void Rollback(int length)
        {
            SessionArguments.CheckRollback(this, length);
            Length = length;
        }

        public void Dispose()
        {
            _past.ForEach(p => p.Dispose());
            _runOptions.Dispose();
        }

        private static OrtValue Copy(OrtValue source)
        {
            var shape = source.GetTensorTypeAndShape().Shape;
            var copy = OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, Microsoft.ML.OnnxRuntime.Tensors.TensorElementType.Float, shape);
            source.GetTensorDataAsSpan<float>().CopyTo(copy.GetTensorMutableDataAsSpan<float>());
            return copy;
        }

        private OrtValue EmptyPast(int length) => OrtValue.CreateAllocatedTensorValue(
            OrtAllocator.DefaultInstance,
            Microsoft.ML.OnnxRuntime.Tensors.TensorElementType.Float,
            [_batch, _model.Config.NumKeyValueHeads, length, _model.Config.HeadSize]);

        // A rollback only notes the length; the rows are dropped here, once, however many rollbacks came before.
        private void TruncatePast()
        {
            if (Length == _pastLength)
            {
                return;
            }

            var (oldRow, newRow) = (_pastLength * _model.Config.HeadSize, Length * _model.Config.HeadSize);
            for (var i = 0; i < _past.Count; i++)
            {
                var shorter = EmptyPast(Length);
                var source = _past[i].GetTensorDataAsSpan<float>();
                var target = newRow == 0 ? [] : shorter.GetTensorMutableDataAsSpan<float>();
                for (var head = 0; head < _batch * _model.Config.NumKeyValueHeads && newRow > 0; head++)
                {
                    source.Slice(head * oldRow, newRow).CopyTo(target[(head * newRow)..]);
                }

                _past[i].Dispose();
                _past[i] = shorter;
            }

            _pastLength = Length;
        }
    }
}
