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
    private nint _core;
    private nint _model;
    private nint _compiled;

    private OpenVinoCausalModel(OpenVinoRuntime runtime, DecoderConfig config)
    {
        _runtime = runtime;
        Config = config;
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
        var compile = (delegate* unmanaged<nint, nint, nint, nuint, nint*, nint, nint, nint, nint, int>)_runtime.Symbol("ov_core_compile_model");
        _runtime.Check(
            compile(
                _core, _model, text.Of("CPU"), 4, &created,
                text.Of("INFERENCE_PRECISION_HINT"), text.Of("f32"), text.Of("KV_CACHE_PRECISION"), text.Of("f32")),
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
        private readonly OpenVinoCausalModel _model;
        private readonly OpenVinoRuntime _runtime;
        private readonly int _batch;

        // One entry per position in the state: 0 hides a rejected one.
        private readonly List<bool> _visible = [];
        private nint _request;
        private nint _lastLogits;

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
        }

        public int Length { get; private set; }

        public int Capacity { get; }

        public void Forward(ReadOnlySpan<int> tokens, Span<float> logits, int numLogitRows)
        {
            ObjectDisposedException.ThrowIf(_request == 0, this);
            var count = SessionArguments.CheckForward(this, _model.VocabularySize, _batch, tokens, logits, numLogitRows);
            var total = _visible.Count + count;
            var ids = new long[_batch * count];
            var positions = new long[ids.Length];
            for (var i = 0; i < ids.Length; i++)
            {
                ids[i] = tokens[i];
                positions[i] = Length + (i % count);
            }

            var mask = new long[_batch * total];
            for (var i = 0; i < mask.Length; i++)
            {
                var position = i % total;
                mask[i] = position >= _visible.Count || _visible[position] ? 1 : 0;
            }

            SetInput<long>("input_ids", ids, _batch, count);
            SetInput<long>("attention_mask", mask, _batch, total);
            SetInput<long>("position_ids", positions, _batch, count);
            SetInput<int>("beam_idx", [.. Enumerable.Range(0, _batch)], _batch);
            _runtime.Check(((delegate* unmanaged<nint, int>)_runtime.Symbol("ov_infer_request_infer"))(_request), "ov_infer_request_infer");
            WithTensor("logits", data => _lastLogits = data);
            var all = new ReadOnlySpan<float>((void*)_lastLogits, checked(_batch * count * _model.VocabularySize));
            SessionArguments.CopyLastRows(all, logits, _batch, count, numLogitRows, _model.VocabularySize);
            _visible.AddRange(Enumerable.Repeat(true, count));
            Length += count;
        }

        public void Rollback(int length)
        {
            SessionArguments.CheckRollback(this, length);
            for (var (i, hide) = (_visible.Count - 1, Length - length); hide > 0; i--)
            {
                if (_visible[i])
                {
                    _visible[i] = false;
                    hide--;
                }
            }

            Length = length;
        }

        public void Dispose() => _model.Free(ref _request, "ov_infer_request_free");

        private void SetInput<T>(string name, T[] values, params long[] shape)
            where T : unmanaged
        {
            WithTensor(
                name,
                data => values.CopyTo(new Span<T>((void*)data, values.Length)),
                shape);
        }

        // The request owns the memory; the handle is only a reference to it.
        private void WithTensor(string name, Action<nint> use, params long[] shape)
        {
            using var text = new NativeTexts();
            nint tensor;
            var get = (delegate* unmanaged<nint, nint, nint*, int>)_runtime.Symbol("ov_infer_request_get_tensor");
            _runtime.Check(get(_request, text.Of(name), &tensor), $"ov_infer_request_get_tensor({name})");
            try
            {
                if (shape.Length > 0)
                {
                    fixed (long* dimensions = shape)
                    {
                        var resize = (delegate* unmanaged<nint, NativeShape, int>)_runtime.Symbol("ov_tensor_set_shape");
                        _runtime.Check(resize(tensor, new NativeShape { Rank = shape.Length, Dimensions = dimensions }), $"ov_tensor_set_shape({name})");
                    }
                }

                nint data;
                _runtime.Check(((delegate* unmanaged<nint, nint*, int>)_runtime.Symbol("ov_tensor_data"))(tensor, &data), $"ov_tensor_data({name})");
                use(data);
            }
            finally
            {
                _model.Free(ref tensor, "ov_tensor_free");
            }
        }
    }
}
