using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace FastDraft.Modeling.Native;

/// <summary>A few float32 numbers on their way from the device; making one waits for nothing, reading it waits for them.</summary>
internal sealed class DeviceNumbers : IDisposable
{
    private readonly Tensor _host;
    private readonly nint _arrived;

    public DeviceNumbers(Tensor numbers)
    {
        using var noGrad = no_grad();
        if (numbers.device_type != DeviceType.CUDA)
        {
            _host = numbers.clone().DetachFromDisposeScope();
            return;
        }

        // libtorch pins the memory that a copy which is not waited for goes to.
        _host = numbers.to(CPU, non_blocking: true).DetachFromDisposeScope();
        _arrived = CudaDriver.Instance.NewEvent();
        CudaDriver.Instance.Record(_arrived);
    }

    public float[] Read()
    {
        if (_arrived != 0)
        {
            CudaDriver.Instance.Wait(_arrived);
        }

        return _host.data<float>().ToArray();
    }

    public void Dispose()
    {
        if (_arrived != 0)
        {
            CudaDriver.Instance.Destroy(_arrived);
        }

        _host.Dispose();
    }
}

/// <summary>
/// Batches on their way to the device. On a card they leave from pinned memory, which alone lets the call return at once; there are three
/// such places in turn, so at most two steps may be on their way when the next begins.
/// </summary>
internal sealed class BatchUpload(Device device) : IDisposable
{
    private const int NumPlaces = 3;

    private readonly Tensor?[] _places = new Tensor?[NumPlaces];
    private int _next;

    /// <summary>ids and labels, [rows, length] int64 each, on the device; they belong to the current dispose scope.</summary>
    public (Tensor Ids, Tensor Labels) ToDevice(long[] ids, long[] labels, int length)
    {
        var rows = ids.Length / length;
        if (device.type != DeviceType.CUDA)
        {
            return (tensor(ids, [rows, length], device: device), tensor(labels, [rows, length], device: device));
        }

        ref var place = ref _places[_next];
        _next = (_next + 1) % NumPlaces;
        if (place is null)
        {
            using var unpinned = empty([2, rows, length], ScalarType.Int64);
            place = unpinned.pin_memory().DetachFromDisposeScope();
        }

        var bytes = place.bytes;
        MemoryMarshal.AsBytes(ids.AsSpan()).CopyTo(bytes);
        MemoryMarshal.AsBytes(labels.AsSpan()).CopyTo(bytes[(ids.Length * sizeof(long))..]);
        var both = place.to(device, non_blocking: true);
        return (both[0], both[1]);
    }

    public void Dispose()
    {
        foreach (var place in _places)
        {
            place?.Dispose();
        }
    }
}
