"""What is measured about ten times in a training, by the leading process alone.

Shapes: T positions, V vocabulary, D hidden.
"""
import math

import numpy as np
import torch
import torch.nn.functional as F

from . import loss
from .data import PackedWindows, SequenceRows, TokenSplit
from .decoder import Decoder, split_fused
from .files import read_tensors

_MAX_ROWS = 16


class ValidationLoss:
    """Mean loss on the first rows of the validation split, in an order that is always the same."""

    decides = False

    def __init__(self, job, device):
        self._job, self._device, self.last = job, device, None
        split = TokenSplit(job.windows.tokens, "validation") if job.windows else None
        rows = min(_MAX_ROWS, split.num_windows(job.sequenceLength)) if split and split.exists else 0
        self._batch = PackedWindows(split, 0).fill(np.arange(rows), job.sequenceLength) if rows else None

    @torch.no_grad()
    def measure(self, decoder):
        """("validation_loss", value); NaN where there is nothing to measure on."""
        if self._batch is None:
            return "validation_loss", math.nan
        ids, labels = (torch.from_numpy(np.ascontiguousarray(part)).to(self._device.place) for part in self._batch)
        with self._device.autocast(self._job.bfloat16):
            hidden_BTD = decoder(ids)
        self.last = loss.mean(hidden_BTD.reshape(-1, hidden_BTD.shape[2]), decoder.head, labels.reshape(-1), self._job.maxLogits)
        return "validation_loss", self.last


class AcceptanceCheck:
    """Mean of sum_x min(p(x), q(x)) at temperature 1 over the written positions of held-out rows, teacher-forced: what decides when
    fine-tuning stops. Rows are padded to one length, so that every forward pass has the same shape."""

    def __init__(self, job, device):
        self._job, self._device, self._target = job, device, None
        self._rows = SequenceRows(job.acceptance.rows)

    @property
    def decides(self):
        return len(self._rows) > 0

    @torch.no_grad()
    def measure(self, decoder):
        if not self.decides:
            return "acceptance", math.nan
        self._target = self._target or self._load()
        length, total, count = self._job.sequenceLength + 1, 0.0, 0
        for index in range(len(self._rows)):
            ids, start = self._rows[index]
            padded = np.zeros((1, length), dtype=np.int64)
            padded[0, :len(ids)] = ids
            ids_1T = torch.from_numpy(padded).to(self._device.place)
            overlap_T = torch.minimum(self._law(self._target, ids_1T), self._law(decoder, ids_1T)).sum(-1)

            # Position t says what it expects of the token at t + 1.
            written = np.zeros(length, dtype=np.float32)
            written[start - 1:len(ids) - 1] = 1
            total += (overlap_T * torch.from_numpy(written).to(self._device.place)).sum().item()
            count += len(ids) - start
        return "acceptance", total / count if count else math.nan

    def _law(self, decoder, ids_1T):
        """[T, V] float32"""
        with self._device.autocast(self._job.bfloat16):
            hidden_TD = decoder(ids_1T)[0]
        return F.linear(hidden_TD, decoder.head.to(hidden_TD.dtype)).float().softmax(-1)

    def _load(self):
        tensors = split_fused(read_tensors(self._job.acceptance.targetWeights), self._job.acceptance.target)
        narrow = self._job.bfloat16 and all(tensor.element_size() == 2 for tensor in tensors.values())
        stored = torch.bfloat16 if narrow else torch.float32
        target = Decoder(self._job.acceptance.target, self._job.sequenceLength + 1, torch.bfloat16 if self._job.bfloat16 else torch.float32, self._device.attention)
        target.assign({name: tensors.pop(name).to(self._device.place, stored) for name, _ in list(target.named_parameters())}, requires_grad=False)
        return target.to(self._device.place)
