"""safetensors in and out, never pickle. A file gets its name when it is whole and durable: a kill leaves the old one or the new one."""
import os

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .protocol import Kind, TrainingFailure

CHECKPOINT = "training.safetensors"
_FORMAT = "fastdraft-training/1"


def read_tensors(paths):
    """name -> tensor on the CPU, of all the files together."""
    tensors = {}
    for path in paths:
        with _open(path) as file:
            tensors.update({name: file.get_tensor(name) for name in file.keys()})
    return tensors


def write_tensors(path, tensors, metadata):
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path + ".tmp", metadata)
    with open(path + ".tmp", "rb+") as file:
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_checkpoint(folder, digest, step, best_score, checks_without_gain, tensors, last_loss=None):
    """The C# trainer's file: flat float32 weights and moments, the numbers that decide the next step, and what is told of the last one."""
    os.makedirs(folder, exist_ok=True)
    write_tensors(os.path.join(folder, CHECKPOINT), tensors, {
        "format": _FORMAT, "settings": digest, "step": str(step),
        "bestScore": "-Infinity" if best_score == float("-inf") else repr(float(best_score)), "checksWithoutGain": str(checks_without_gain),
        "loss": "NaN" if last_loss is None else repr(float(last_loss))})


def read_checkpoint(folder, digest):
    """(metadata, tensors), or None where there is none or it is of other settings."""
    path = os.path.join(folder, CHECKPOINT)
    if not os.path.exists(path):
        return None
    with _open(path) as file:
        metadata = file.metadata() or {}
        if metadata.get("settings") != digest:
            return None
        return metadata, {name: file.get_tensor(name) for name in file.keys()}


def _open(path):
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise TrainingFailure(Kind.Data, f"'{path}' cannot be read as safetensors: {error}") from error
