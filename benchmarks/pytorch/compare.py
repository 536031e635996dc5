"""Training tokens/s of one draft on one GPU, in one run: plain torch eager and compiled (train.py), and the external trainer likewise,
whole: token shards from disk, chunked loss, flat optimizer, its own lines.

Usage: python compare.py [vocabulary=128256] [hidden=768] [layers=6] [rows=16] [length=1024] [steps=200]
Only figures of one card and one minute compare: run it as one command, on a machine that does nothing else.
"""
import io
import json
import os
import sys
import tempfile
import time

import numpy as np
import torch
from safetensors.torch import save_file

import train

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "src", "trainer-pytorch"))

from fastdraft_trainer.devices import open_device  # noqa: E402
from fastdraft_trainer.job import FORMAT, Job, Shape, Windows  # noqa: E402
from fastdraft_trainer.protocol import Events  # noqa: E402
from fastdraft_trainer.trainer import Trainer  # noqa: E402
from fastdraft_trainer.world import World  # noqa: E402


class Clock(Events):
    """When the loss of each step was known."""

    def __init__(self):
        super().__init__(leads=True, stream=io.StringIO())
        self.times, self.losses = {}, {}

    def metric(self, name, value, step):
        if name == "loss":
            self.times[step], self.losses[step] = time.perf_counter(), value


def prepare(folder, vocabulary, hidden, layers, rows, length, steps):
    """A job on random tokens, with the shape and the optimizer of train.py."""
    random = np.random.default_rng(1)
    os.makedirs(f"{folder}/tokens")
    count = rows * length * 8 + 1
    random.integers(0, vocabulary, count, dtype=np.uint32).tofile(f"{folder}/tokens/train.bin")
    manifest = {"format": "fastdraft-token-shards/1", "dtype": "uint32", "splits": {"train": {"numTokens": count, "shards": ["train.bin"]}}}
    with open(f"{folder}/tokens/manifest.json", "w", encoding="utf-8") as file:
        json.dump(manifest, file)
    heads = max(1, hidden // 64)
    size = hidden // heads
    frequencies = [10000.0 ** (-2 * i / size) for i in range(size // 2)]
    shape = Shape(vocabulary, hidden, (hidden * 8 // 3 + 31) // 32 * 32, layers, heads, heads, size, 1e-5, frequencies, 1.0, True)
    save_file(initial_weights(shape), f"{folder}/initial.safetensors")
    return lambda compiled: Job(
        format=FORMAT, device="cuda", bfloat16=True, compile=compiled, model=shape, weights=[f"{folder}/initial.safetensors"],
        windows=Windows(f"{folder}/tokens", 1), rows=None, acceptance=None, numSteps=steps, sequenceLength=length, batchSize=rows, accumulationSteps=1,
        learningRate=6e-4, warmupFraction=0.02, finalFraction=0.1, weightDecay=0.1, maxGradientNorm=1.0, maxLogits=1 << 30 if compiled else 1 << 29,
        checkpointSeconds=1e9, settingsDigest=str(compiled), resumeFolder=f"{folder}/resume", output=f"{folder}/out/model.safetensors", result=f"{folder}/result.json")


def initial_weights(shape):
    from fastdraft_trainer.decoder import Decoder

    torch.manual_seed(1)
    return {name: torch.ones(p.shape) if p.dim() == 1 else torch.randn(p.shape) * 0.02 for name, p in Decoder(shape, 1, torch.float32).named_parameters()}


def measure(name, job, steps):
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    clock, world = Clock(), World()
    Trainer(job, world, open_device("cuda", 0), clock, lambda: False).run()
    warm = steps // 10
    rate = (steps - warm) * job.batchSize * job.sequenceLength / (clock.times[steps] - clock.times[warm])
    print(f"trainer {name}: {job.batchSize} x {job.sequenceLength}: {rate:.0f} tokens/s, loss {clock.losses[1]:.3f} to {clock.losses[steps]:.3f}, peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB", flush=True)
    return rate


def main():
    given = [int(a) for a in sys.argv[1:]]
    vocabulary, hidden, layers, rows, length, steps = given + [128256, 768, 6, 16, 1024, 200][len(given):]
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    torch.manual_seed(1)
    model = train.Draft(vocabulary, hidden, layers, length).cuda()
    train.measure("eager", model, model, vocabulary, rows, length, steps)
    baseline = train.measure("compile", torch.compile(model), model, vocabulary, rows, length, steps)
    del model
    with tempfile.TemporaryDirectory() as folder:
        job = prepare(folder, vocabulary, hidden, layers, rows, length, steps)
        measure("eager", job(False), steps)
        rate = measure("compile", job(True), steps)
    print(f"trainer compile / torch compile = {rate / baseline:.3f}", flush=True)


if __name__ == "__main__":
    main()
