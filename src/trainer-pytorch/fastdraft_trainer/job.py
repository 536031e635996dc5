"""The job file that a stage writes: everything resolved, nothing derived here but the learning rate of a step."""
import dataclasses
import json
import math
import types
import typing

from .protocol import Kind, TrainingFailure

FORMAT = "fastdraft-trainer-job/1"


@dataclasses.dataclass(frozen=True)
class Shape:
    """A Llama-family decoder, as in the stage's model configuration. ropeFrequencies: radians a position, [S / 2]; ropeMagnitude: of cosine and sine."""

    vocabularySize: int
    hiddenSize: int
    intermediateSize: int
    numLayers: int
    numHeads: int
    numKeyValueHeads: int
    headSize: int
    rmsNormEpsilon: float
    ropeFrequencies: list
    ropeMagnitude: float
    tieWordEmbeddings: bool


@dataclasses.dataclass(frozen=True)
class Windows:
    """Packed windows of the token shards' train split, every (1 / replayFraction)-th one from the replay shards."""

    tokens: str
    seed: int
    replay: str | None = None
    replayFraction: float = 0.0


@dataclasses.dataclass(frozen=True)
class Rows:
    """Padded rows of a safetensors file: ids, offsets, lossStarts."""

    file: str
    seed: int


@dataclasses.dataclass(frozen=True)
class Acceptance:
    """What decides when fine-tuning stops: the acceptance of held-out rows by the target."""

    rows: str
    target: Shape
    targetWeights: list
    patience: int


@dataclasses.dataclass(frozen=True)
class Job:
    format: str
    device: str
    bfloat16: bool
    compile: bool
    model: Shape
    weights: list
    windows: Windows | None
    rows: Rows | None
    acceptance: Acceptance | None
    numSteps: int
    sequenceLength: int
    batchSize: int
    accumulationSteps: int
    learningRate: float
    warmupFraction: float
    finalFraction: float
    weightDecay: float
    maxGradientNorm: float
    maxLogits: int
    checkpointSeconds: float
    settingsDigest: str
    resumeFolder: str
    output: str
    result: str

    def learning_rate_at(self, step):
        """Of a step counted from 0: linear warm-up, then a cosine to finalFraction."""
        warmup = max(1, math.ceil(self.numSteps * self.warmupFraction))
        if step < warmup:
            return self.learningRate * (step + 1) / warmup
        progress = (step - warmup) / max(1, self.numSteps - warmup)
        return self.learningRate * (self.finalFraction + (1 - self.finalFraction) * 0.5 * (1 + math.cos(math.pi * progress)))

    @staticmethod
    def load(path):
        try:
            with open(path, encoding="utf-8") as file:
                job = _build(Job, json.load(file))
        except FileNotFoundError:
            raise TrainingFailure(Kind.Config, f"Job file '{path}' does not exist.", "the trainer-job.json that a stage left in its resume folder") from None
        except (ValueError, TypeError) as error:
            raise TrainingFailure(Kind.Config, f"'{path}' is not a job file: {error}", "a job of this version's worker") from error
        if job.format != FORMAT:
            raise TrainingFailure(Kind.Config, f"'{path}' has format '{job.format}'; this trainer reads {FORMAT}.", "the trainer of the same version")
        if (job.windows is None) == (job.rows is None):
            raise TrainingFailure(Kind.Config, f"'{path}' must name either windows or rows to train on.")
        return job


def _build(kind, members):
    """A dataclass from JSON, nested ones too. A member that is missing or unknown is an error, not a default."""
    if not isinstance(members, dict):
        raise TypeError(f"{kind.__name__} must be an object")
    hints = typing.get_type_hints(kind)
    for name in members.keys() - hints.keys():
        raise TypeError(f"{kind.__name__} has no member '{name}'")
    values = {}
    for name, value in members.items():
        inner = next((t for t in (typing.get_args(hints[name]) if isinstance(hints[name], types.UnionType) else (hints[name],)) if dataclasses.is_dataclass(t)), None)
        values[name] = _build(inner, value) if inner and value is not None else value
    return kind(**values)
