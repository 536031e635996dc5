"""What differs between hpu, cuda and cpu, and nothing else does: placing, autocast, fused parts, compiling, communication."""
import collections
import contextlib
import os

import torch

from . import decoder, optimizer
from .protocol import Kind, TrainingFailure


class CpuDevice:
    """float32 and no fused parts: the reference for the others, and bit-identical from run to run."""

    name, collectives, tensors = "cpu", "gloo", "cpu"
    compile_backend = "inductor"
    attention = staticmethod(decoder.causal_attention)

    # Steps that may be queued on the device before the oldest one's loss is looked at.
    lag = 0

    def __init__(self, local_rank):
        self.place = torch.device(self.tensors)

    def check(self):
        """Raises a TrainingFailure where this device is not here."""

    def autocast(self, enabled):
        return torch.autocast(device_type=self.name, dtype=torch.bfloat16) if enabled else contextlib.nullcontext()

    def adamw(self, flat, weight_decay):
        return optimizer.AdamW(flat, weight_decay)

    def compile(self, function, enabled):
        """Shapes are the same at every step; where the graph is compiled, it is compiled once."""
        if not enabled or not hasattr(torch, "compile"):
            return function
        return torch.compile(function, backend=self.compile_backend, dynamic=False)

    def to_device(self, tensor):
        return tensor.to(self.place)

    def begin_read(self, numbers):
        """Something that end_read turns into a list of floats, later."""
        return numbers

    def end_read(self, pending):
        return pending.tolist()

    def mark_step(self):
        """Where lazily collected work is to be sent to the device."""


class CudaDevice(CpuDevice):
    name, collectives, tensors = "cuda", "nccl", "cuda"
    lag = 2

    def __init__(self, local_rank):
        self.check()
        self.place = torch.device(self.tensors, local_rank)
        torch.cuda.set_device(self.place)
        torch.backends.cuda.matmul.allow_tf32 = False
        self._pinned = collections.deque(torch.empty(8).pin_memory() for _ in range(self.lag + 2))

    def check(self):
        if not torch.cuda.is_available():
            raise TrainingFailure(Kind.Config, f"accelerator is cuda, but torch {torch.__version__} sees none.", "fastdraft doctor; a CUDA build of torch for FASTDRAFT_PYTHON")

    def adamw(self, flat, weight_decay):
        return optimizer.CudaAdamW(flat, weight_decay) if hasattr(torch, "_fused_adamw_") else super().adamw(flat, weight_decay)

    def to_device(self, tensor):
        return tensor.pin_memory().to(self.place, non_blocking=True)

    def begin_read(self, numbers):
        host = self._pinned[0][:len(numbers)]
        self._pinned.rotate(-1)
        host.copy_(numbers, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        return host, done

    def end_read(self, pending):
        host, done = pending
        done.synchronize()
        return host.tolist()


class HpuDevice(CpuDevice):
    """Intel Gaudi through habana_frameworks, eager and torch.compile (PT_HPU_LAZY_MODE=0); lazy mode works too, with its mark points."""

    name, collectives, tensors = "hpu", "hccl", "hpu"
    compile_backend = "hpu_backend"

    def __init__(self, local_rank):
        # Read when habana_frameworks is imported: labels and ids are 64-bit, and eager mode is the recommended one.
        os.environ.setdefault("PT_HPU_LAZY_MODE", "0")
        os.environ.setdefault("PT_ENABLE_INT64_SUPPORT", "1")
        self.check()
        import habana_frameworks.torch.core as core
        import habana_frameworks.torch.distributed.hccl  # noqa: F401, registers the backend

        self._core = core
        self._lazy = os.environ["PT_HPU_LAZY_MODE"] == "1"
        self.place = torch.device(self.tensors)
        self._fused_adamw = self._fused("habana_frameworks.torch.hpex.optimizers", "FusedAdamW")
        fused_attention = self._fused("habana_frameworks.torch.hpex.kernels", "FusedSDPA")
        if fused_attention:
            self.attention = lambda query, key, value: fused_attention.apply(query, key, value, None, 0.0, True)

    def check(self):
        try:
            import habana_frameworks.torch.core  # noqa: F401
        except ImportError as error:
            raise TrainingFailure(
                Kind.Config, f"accelerator is gaudi, but this Python has no habana_frameworks ({error}).", "fastdraft doctor; Intel's PyTorch container, with FASTDRAFT_PYTHON naming its python3") from error

    def adamw(self, flat, weight_decay):
        return optimizer.HpuAdamW(flat, weight_decay, self._fused_adamw) if self._fused_adamw else super().adamw(flat, weight_decay)

    def compile(self, function, enabled):
        # Lazy mode compiles its own graphs.
        return super().compile(function, enabled and not self._lazy)

    def mark_step(self):
        if self._lazy:
            self._core.mark_step()

    @staticmethod
    def _fused(module, name):
        try:
            return getattr(__import__(module, fromlist=[name]), name)
        except (ImportError, AttributeError):
            return None


DEVICES = {device.name: device for device in (CpuDevice, CudaDevice, HpuDevice)}


def open_device(name, local_rank):
    if name not in DEVICES:
        raise TrainingFailure(Kind.Config, f"Device '{name}' is not known; there are {', '.join(DEVICES)}.")
    return DEVICES[name](local_rank)
