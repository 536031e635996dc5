"""A tiny training in a folder of its own, started as the worker or torchrun starts it: processes, environment variables, signals."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from fastdraft_trainer.decoder import Decoder
from fastdraft_trainer.job import FORMAT, Shape

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHAPE = dict(
    vocabularySize=96, hiddenSize=32, intermediateSize=48, numLayers=2, numHeads=4, numKeyValueHeads=2, headSize=8,
    rmsNormEpsilon=1e-5, ropeFrequencies=[10000.0 ** (-i / 4) for i in range(4)], ropeMagnitude=1.0, tieWordEmbeddings=True)


class Training:
    """Use as a context manager; the folder goes with it."""

    def __init__(self, **changes):
        self.folder = tempfile.mkdtemp(prefix="fastdraft-trainer-")
        shape = Shape(**SHAPE)
        write_shards(self.path("tokens"), 96, 9000)
        torch.manual_seed(1)
        save_file(
            {name: torch.ones(p.shape) if p.dim() == 1 else torch.randn(p.shape) * 0.05 for name, p in Decoder(shape, 1, torch.float32).named_parameters()},
            self.path("initial.safetensors"))
        self.job = dict(
            format=FORMAT, device="cpu", bfloat16=False, compile=False, model=SHAPE, weights=[self.path("initial.safetensors")],
            windows=dict(tokens=self.path("tokens"), seed=7), rows=None, acceptance=None, numSteps=60, sequenceLength=16, batchSize=8, accumulationSteps=1,
            learningRate=0.01, warmupFraction=0.1, finalFraction=0.1, weightDecay=0.1, maxGradientNorm=1.0, maxLogits=96 * 50, checkpointSeconds=0.0,
            settingsDigest="settings", resumeFolder=self.path("resume"), output=self.path("out/model.safetensors"), result=self.path("result.json"))
        self.job.update(changes)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def again(self, **changes):
        """The same job from its beginning, to other places."""
        name = f"again-{len(os.listdir(self.folder))}"
        other = Training.__new__(Training)
        other.folder = self.folder
        other.job = {
            **self.job, "resumeFolder": self.path(name), "output": self.path(f"{name}/out/model.safetensors"), "result": self.path(f"{name}/result.json"), **changes}
        return other

    def write(self):
        """The path of the job file."""
        os.makedirs(self.job["resumeFolder"], exist_ok=True)
        file = os.path.join(self.job["resumeFolder"], "job.json")
        with open(file, "w", encoding="utf-8") as stream:
            json.dump(self.job, stream)
        return file

    def run(self, processes=1, environment=None, at_step=None):
        """Exit codes, and the lines of the first process. at_step is (step, act): act gets the processes once that step is reported."""
        file = self.write()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        members = [
            subprocess.Popen(
                [sys.executable, PACKAGE, file], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                     "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})})
            for rank in range(processes)]
        lines = []
        try:
            for text in members[0].stdout:
                lines.append(json.loads(text))
                if at_step and lines[-1].get("type") == "progress" and lines[-1]["done"] >= at_step[0]:
                    at_step[1](members)
                    at_step = None
            codes = [member.wait(timeout=60) for member in members]
        finally:
            for member in members:
                member.kill()
                member.stdout.close()
                member.wait()
        return codes, lines

    def weights(self):
        return load_file(self.job["output"])


def losses(lines):
    return {line["step"]: line["value"] for line in lines if line["type"] == "metric" and line["name"] == "loss"}


def failures(lines):
    return [line for line in lines if line["type"] == "failure"]


def terminate(members):
    for member in members:
        member.send_signal(signal.SIGTERM)


def write_shards(folder, vocabulary, count, splits=("train", "validation"), seed=3):
    """A split in two shards of a sequence that can be learnt: each id mostly follows from the one before."""
    os.makedirs(folder)
    random = np.random.default_rng(seed)
    manifest = {"format": "fastdraft-token-shards/1", "dtype": "uint16", "splits": {}}
    for split in splits:
        ids = np.cumsum(random.integers(1, 4, count)) % vocabulary
        names = [f"{split}-0.bin", f"{split}-1.bin"]
        for name, part in zip(names, (ids[:count // 3], ids[count // 3:])):
            part.astype("<u2").tofile(os.path.join(folder, name))
        manifest["splits"][split] = {"numTokens": count, "numDocuments": 1, "shards": names}
    with open(os.path.join(folder, "manifest.json"), "w", encoding="utf-8") as file:
        json.dump(manifest, file)
