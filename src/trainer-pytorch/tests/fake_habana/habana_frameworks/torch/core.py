"""Stand-in for htcore: importing the real one makes the device type hpu known to torch. Here hpu is the CPU under another name."""
import os

import torch

from fastdraft_trainer import devices

from .. import record

record("environment", os.environ.get("PT_HPU_LAZY_MODE"), os.environ.get("PT_ENABLE_INT64_SUPPORT"))
record("device", devices.HpuDevice.tensors)
devices.HpuDevice.tensors = "cpu"

_autocast = torch.autocast


def _recorded_autocast(device_type, dtype):
    record("autocast", device_type, str(dtype))
    return _autocast(device_type="cpu", dtype=dtype)


def _recorded_compile(function, backend, dynamic):
    record("compile", backend, dynamic)

    def called(*arguments):
        record("called", *[list(argument.shape) for argument in arguments])
        return function(*arguments)

    return called


torch.autocast, torch.compile = _recorded_autocast, _recorded_compile


def mark_step():
    record("mark_step")
