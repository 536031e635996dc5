using System.Runtime.InteropServices;
using FastDraft.Modeling.Models;

namespace FastDraft.Export.OpenVino;

/// <summary>
/// An exported IR on OpenVINO's CPU plugin, computing and caching in float32 (its defaults are not). Each session is an infer request
/// with its own state. The C API cannot truncate that state, so rejected positions stay in it, hidden by zeros of
/// <c>attention_mask</c> while <c>position_ids</c> go on from the true length.
/// </summary>
public sealed unsafe class OpenVinoCausalModel : ICausalModel
{
    private readonly OpenVinoRuntime _runtime;

    // Looked up once: a draft of a few layers is called thousands of times a second.
    private readonly delegate* unmanaged<nint, int> _start;
    private readonly delegate* unmanaged<nint, int> _wait;
    private readonly delegate* unmanaged<nint, nuint, nint*, int> _getOutput;
    private readonly delegate* unmanaged<nint, NativeShape, int> _setShape;
    private readonly delegate* unmanaged<nint, nint*, int> _getData;
    private readonly delegate* unmanaged<nint, void> _freeTensor;
    private nint _core;
    private nint _model;
    private nint _compiled;

    private OpenVinoCausalModel(OpenVinoRuntime runtime, DecoderConfig config)
    {
        _runtime = runtime;
        Config = config;
        _start = (delegate* unmanaged<nint, int>)runtime.Symbol("ov_infer_request_start_async");
        _wait = (delegate* unmanaged<nint, int>)runtime.Symbol("ov_infer_request_wait");
        _getOutput = (delegate* unmanaged<nint, nuint, nint*, int>)runtime.Symbol("ov_infer_request_get_output_tensor_by_index");
        _setShape = (delegate* unmanaged<nint, NativeShape, int>)runtime.Symbol("ov_tensor_set_shape");
        _getData = (delegate* unmanaged<nint, nint*, int>)runtime.Symbol("ov_tensor_data");
        _freeTensor = (delegate* unmanaged<nint, void>)runtime.Symbol("ov_tensor_free");
    }

    public DecoderConfig Config { get; }

    public int VocabularySize => Config.VocabularySize;

    public int ContextLength => Config.MaxPositions;

    public long NumParameters => Config.NumParameters;

    /// <summary>Loads openvino_model.xml and config.json of a folder written by <see cref="OpenVinoModelWriter"/>.</summary>
    /// <exception cref="Modeling.Checkpoints.CheckpointException">The folder has no config.json that can be read.</exception>
    /// <exception cref="OpenVinoException">The runtime refuses the model.</exception>
    public static OpenVinoCausalModel Load(OpenVinoRuntime runtime, string folder)
    {
        var model = new OpenVinoCausalModel(runtime, DecoderConfig.Load(folder));
        try
        {
            model.Compile(Path.Combine(folder, OpenVinoModelWriter.ModelName), Path.Combine(folder, OpenVinoModelWriter.WeightsName));
            return model;
        }
        catch (OpenVinoException e)
        {
            model.Dispose();
            throw new OpenVinoException($"'{folder}' cannot be loaded by OpenVINO {runtime.Version}: its files are damaged, or another version wrote them; export it again. {e.Message}", e);
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    public ICausalSession StartSession(int batch = 1, int? capacity = null) => new Session(this, batch, capacity ?? ContextLength);

    public void Dispose()
    {
        Free(ref _compiled, "ov_compiled_model_free");
        Free(ref _model, "ov_model_free");
        Free(ref _core, "ov_core_free");
    }

    private void Compile(string xml, string bin)
    {
        using var text = new NativeTexts();
        nint created;
        _runtime.Check(((delegate* unmanaged<nint*, int>)_runtime.Symbol("ov_core_create"))(&created), "ov_core_create");
        _core = created;
        var read = (delegate* unmanaged<nint, nint, nint, nint*, int>)_runtime.Symbol("ov_core_read_model");
        _runtime.Check(read(_core, text.Of(xml), text.Of(bin), &created), "ov_core_read_model");
        _model = created;

        // The function is variadic in C; pointers are passed alike in both conventions of the platforms OpenVINO's CPU plugin runs on.
        // Threads stay unpinned: a target and its draft share the cores of one process, and a pinned thread waits behind whatever else runs on its core.
        var compile = (delegate* unmanaged<nint, nint, nint, nuint, nint*, nint, nint, nint, nint, nint, nint, int>)_runtime.Symbol("ov_core_compile_model");
        _runtime.Check(
            compile(
                _core, _model, text.Of("CPU"), 6, &created,
                text.Of("INFERENCE_PRECISION_HINT"), text.Of("f32"), text.Of("KV_CACHE_PRECISION"), text.Of("f32"), text.Of("ENABLE_CPU_PINNING"), text.Of("NO")),
            "ov_core_compile_model");
        _compiled = created;
    }

    private void Free(ref nint handle, string function)
    {
        if (handle != 0)
        {
            ((delegate* unmanaged<nint, void>)_runtime.Symbol(function))(handle);
            handle = 0;
        }
    }

    /// <summary>UTF-8 copies of texts, alive for one native call.</summary>
    private sealed class NativeTexts : IDisposable
    {
        private readonly List<nint> _pointers = [];

        public nint Of(string text)
        {
            var pointer = Marshal.StringToCoTaskMemUTF8(text);
            _pointers.Add(pointer);
            return pointer;
        }

        public void Dispose() => _pointers.ForEach(Marshal.FreeCoTaskMem);
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct NativeShape
    {
        public long Rank;
        public long* Dimensions;
    }

    private sealed class Session : ICausalSession
    {
        private const string TensorFree = "ov_tensor_free";

        private readonly OpenVinoCausalModel _model;
        private readonly OpenVinoRuntime _runtime;
        private readonly int _batch;
        private nint _request;
        private nint _ids;
        private nint _attention;
        private nint _positions;
        private nint _beams;

        // One row of attention_mask: 0 hides a rejected position, which stays in the state.
        private long[] _mask = new long[64];
        private int _stored;

        public Session(OpenVinoCausalModel model, int batch, int capacity)
        {
            SessionArguments.CheckStart(model, batch, capacity);
            ObjectDisposedException.ThrowIf(model._compiled == 0, model);
            _model = model;
            _runtime = model._runtime;
            _batch = batch;
            Capacity = capacity;
            var create = (delegate* unmanaged<nint, nint*, int>)_runtime.Symbol("ov_compiled_model_create_infer_request");
            nint request;
            _runtime.Check(create(model._compiled, &request), "ov_compiled_model_create_infer_request");
            _request = request;
            try
            {
                _ids = InputTensor("input_ids");
                _attention = InputTensor("attention_mask");
                _positions = InputTensor("position_ids");
                _beams = InputTensor("beam_idx");
                var beams = Shaped<int>(_beams, batch);
                for (var i = 0; i < batch; i++)
                {
                    beams[i] = i;
                }
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        public int Length { get; private set; }

        public int Capacity { get; }

        public void Forward(ReadOnlySpan<int> tokens, Span<float> logits, int numLogitRows)
        {
            ObjectDisposedException.ThrowIf(_request == 0, this);
            var count = SessionArguments.CheckForward(this, _model.VocabularySize, _batch, tokens, logits, numLogitRows);
            var stored = _stored + count;
            if (stored > _mask.Length)
            {
                Array.Resize(ref _mask, Math.Max(stored, 2 * _mask.Length));
            }

            _mask.AsSpan(_stored, count).Fill(1);
            var ids = Shaped<long>(_ids, _batch, count);
            var positions = Shaped<long>(_positions, _batch, count);
            for (var i = 0; i < ids.Length; i++)
            {
                ids[i] = tokens[i];
                positions[i] = Length + (i % count);
            }

            var attention = Shaped<long>(_attention, _batch, stored);
            for (var b = 0; b < _batch; b++)
            {
                _mask.AsSpan(0, stored).CopyTo(attention[(b * stored)..]);
            }

            // Not ov_infer_request_infer: it takes the caller for one of the plugin's threads, which then yield to each other and to whatever else runs.
            _runtime.Check(_model._start(_request), "ov_infer_request_start_async");
            _runtime.Check(_model._wait(_request), "ov_infer_request_wait");
            _stored = stored;
            Length += count;
            if (numLogitRows > 0)
            {
                CopyLogits(logits, count, numLogitRows);
            }
        }

        public void Rollback(int length)
        {
            SessionArguments.CheckRollback(this, length);
            for (var (i, hide) = (_stored - 1, Length - length); hide > 0; i--)
            {
                hide -= (int)_mask[i];
                _mask[i] = 0;
            }

            Length = length;
        }

        public void Dispose()
        {
            _model.Free(ref _ids, TensorFree);
            _model.Free(ref _attention, TensorFree);
            _model.Free(ref _positions, TensorFree);
            _model.Free(ref _beams, TensorFree);
            _model.Free(ref _request, "ov_infer_request_free");
        }

        // The request owns the memory; the handle is only a reference to it.
        private nint InputTensor(string name)
        {
            using var text = new NativeTexts();
            nint tensor;
            var get = (delegate* unmanaged<nint, nint, nint*, int>)_runtime.Symbol("ov_infer_request_get_tensor");
            _runtime.Check(get(_request, text.Of(name), &tensor), $"ov_infer_request_get_tensor({name})");
            return tensor;
        }

        private Span<T> Shaped<T>(nint tensor, params ReadOnlySpan<long> shape)
            where T : unmanaged
        {
            var size = 1L;
            fixed (long* dimensions = shape)
            {
                _runtime.Check(_model._setShape(tensor, new NativeShape { Rank = shape.Length, Dimensions = dimensions }), "ov_tensor_set_shape");
            }

            foreach (var dimension in shape)
            {
                size *= dimension;
            }

            return new Span<T>(Data(tensor), checked((int)size));
        }

        // The output moves with its shape, so it is asked for anew.
        private void CopyLogits(Span<float> logits, int count, int numLogitRows)
        {
            nint output;
            _runtime.Check(_model._getOutput(_request, 0, &output), "ov_infer_request_get_output_tensor_by_index");
            try
            {
                var all = new ReadOnlySpan<float>(Data(output), checked(_batch * count * _model.VocabularySize));
                SessionArguments.CopyLastRows(all, logits, _batch, count, numLogitRows, _model.VocabularySize);
            }
            finally
            {
                _model._freeTensor(output);
            }
        }

        private void* Data(nint tensor)
        {
            nint data;
            _runtime.Check(_model._getData(tensor, &data), "ov_tensor_data");
            return (void*)data;
        }
    }
}
