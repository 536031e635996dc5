"""What the worker understands: JSON lines on stdout and sysexits. Tensors and torch are unknown here."""
import enum
import errno
import json
import math
import sys
import time


class Kind(enum.Enum):
    """Why a training ended without a model; the value is the exit code."""

    Config = 64
    Data = 65
    Bug = 70
    Resource = 74
    Infrastructure = 75


CANCELLED = 143


class TrainingFailure(Exception):
    """What happened, which input, and what to try."""

    def __init__(self, kind, message, hint=None):
        super().__init__(message)
        self.kind, self.hint = kind, hint


class Cancelled(Exception):
    """A signal asked for the end; the checkpoint is written."""


class Events:
    """One line a call. Only the process that leads reports progress and metrics; every process may say why it failed."""

    def __init__(self, leads, stream=None):
        self._leads, self._stream = leads, stream or sys.stdout

    def progress(self, done, total, unit):
        if self._leads:
            self._write(type="progress", done=done, total=total, unit=unit)

    def metric(self, name, value, step):
        if self._leads and math.isfinite(value):
            self._write(type="metric", name=name, value=value, step=step)

    def log(self, message, level="Information"):
        if self._leads or level != "Information":
            self._write(type="log", level=level, message=message)

    def failure(self, failure):
        self._write(type="failure", kind=failure.kind.name, message=str(failure), hint=failure.hint)
        return failure.kind.value

    def _write(self, **line):
        print(json.dumps({**line, "at": int(time.time() * 1000)}), file=self._stream, flush=True)


def classify(error):
    """The failure that an exception means. A message of torch names no file of ours, so it keeps its type's name."""
    if isinstance(error, TrainingFailure):
        return error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error).lower():
        return TrainingFailure(Kind.Infrastructure, f"Out of memory: {first_line(error)}", "a smaller batchSize, or more accumulationSteps")
    if isinstance(error, OSError):
        hint = "free space on this disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
        return TrainingFailure(Kind.Resource, str(error), hint)
    return TrainingFailure(Kind.Bug, f"{type(error).__name__}: {first_line(error)}")


def first_line(error):
    return (str(error).splitlines() or [""])[0]
