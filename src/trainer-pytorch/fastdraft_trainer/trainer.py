"""The training loop. Everything that decides the next step (weights, moments, step number) is the same in every process and is in the
checkpoint that the leading one writes; a batch is a pure function of the step. So a run killed at any moment and resumed ends, on cpu
with the same number of processes, with the same bits; with another number it sees the same rows in the same order.

Shapes: A accumulation steps, B rows of a micro batch in one process, T positions, N = B x T, D hidden.
"""
import collections
import concurrent.futures
import json
import math
import os
import time

import numpy as np
import torch

from . import loss
from .checks import AcceptanceCheck, ValidationLoss
from .data import open_source
from .decoder import Decoder, split_fused
from .files import read_checkpoint, read_tensors, write_checkpoint, write_tensors
from .optimizer import FlatParameters
from .protocol import Cancelled, Kind, TrainingFailure

_LOG_POINTS, _CHECKS = 200, 10


class Trainer:
    """stop() says whether this process was asked to end."""

    def __init__(self, job, world, device, events, stop):
        self._job, self._world, self._device, self._events, self._stop = job, world, device, events, stop
        parts = job.accumulationSteps * world.size
        if job.batchSize % parts != 0:
            raise TrainingFailure(
                Kind.Config, f"A batch of {job.batchSize} rows does not divide into {job.accumulationSteps} accumulation steps of {world.size} processes.",
                f"a batchSize that is a multiple of {parts}, or another numProcesses")
        self._rows = job.batchSize // parts
        self._source = open_source(job)
        self._decoder = Decoder(job.model, job.sequenceLength + 1, torch.bfloat16 if job.bfloat16 else torch.float32, device.attention)
        self._flat = FlatParameters(self._decoder, self._initial_weights(), device.place)
        self._decoder.to(device.place)
        self._optimizer = device.adamw(self._flat, job.weightDecay)
        self._diverged = torch.zeros((), device=device.place)
        self._forward = device.compile(self._decoder, job.compile)
        self._slope = device.compile(loss.slope, job.compile)
        self._check = AcceptanceCheck(job, device) if job.acceptance else ValidationLoss(job, device)
        self._pending = collections.deque()
        self._loader = concurrent.futures.ThreadPoolExecutor(max_workers=1)
        self.next_step, self._best_score, self._checks_without_gain, self._best = 0, -math.inf, 0, None
        self._stop_after = math.inf
        self._last_loss = self._first_score = None
        self._resume()

    def run(self):
        """Runs the remaining steps; the leading process then writes the weights and what is to be told of them.

        Raises Cancelled after a checkpoint where a process was asked to stop, and a TrainingFailure where the loss is no longer finite.
        """
        job, leads = self._job, self._world.leads
        check_every = max(1, job.numSteps // _CHECKS)
        self._first_step, self._started = self.next_step, time.monotonic()
        saved, interval = time.monotonic(), job.checkpointSeconds
        if self.next_step == 0 and job.acceptance:
            self._score()
        batch = self._loader.submit(self._load, self.next_step)
        while self.next_step < job.numSteps and not self._is_out_of_patience:
            ids, labels, scale = batch.result()
            batch = self._loader.submit(self._load, self.next_step + 1)
            self._queue(self._device.to_device(ids), self._device.to_device(labels), scale)
            self.next_step += 1
            at_check = self.next_step % check_every == 0 or self.next_step == job.numSteps
            self._settle(0 if at_check else self._device.lag)
            if at_check:
                self._score()
            is_done = self.next_step == job.numSteps or self._is_out_of_patience
            to_stop = self.next_step > self._stop_after
            if leads and (is_done or to_stop or time.monotonic() - saved >= interval):
                self._settle(0)
                began = time.monotonic()
                self._save()
                saved = time.monotonic()
                # The state of a large draft is gigabytes: what writing it takes is at most a twentieth of the time.
                interval = max(job.checkpointSeconds, 20 * (saved - began))
            if to_stop and not is_done:
                raise Cancelled()
        self._loader.shutdown(cancel_futures=True)
        if leads:
            if not job.acceptance and self._check.last is None:
                # A process that died between its last checkpoint and its end leaves no step to look after.
                self._check.measure(self._decoder)
            self._write()

    def _queue(self, ids_ABT, labels_ABT, scale):
        """Queues one optimizer step. Its loss is looked at by _settle: until then nothing waits for the device, and on one that computes
        ahead an update after a loss that is not finite changes nothing, nor does any later one."""
        flat = self._flat
        flat.sums.zero_()
        for ids_BT, labels_BT in zip(ids_ABT, labels_ABT):
            with self._device.autocast(self._job.bfloat16):
                hidden_BTD = self._forward(ids_BT)
            hidden_ND = hidden_BTD.reshape(-1, hidden_BTD.shape[2])
            head = self._decoder.head
            summed, gradient_ND = loss.backward(hidden_ND.detach(), head, labels_BT.reshape(-1), scale, head.grad, self._job.maxLogits, self._slope)
            flat.loss.add_(summed)

            # After the head's own part, to which the embedding's is added where the two are tied.
            hidden_ND.backward(gradient_ND)
            self._device.mark_step()
        if self._stop():
            flat.stops.fill_(1)
        self._world.sum(flat.sums)
        norm = flat.gradients.norm()
        numbers = torch.stack([flat.loss, norm, flat.stops])
        rate = self._job.learning_rate_at(self.next_step)
        if self._optimizer.skips_on_device:
            self._diverged = torch.maximum(self._diverged, (norm + flat.loss).isfinite().logical_not().float())
            self._pending.append((self.next_step, rate, self._device.begin_read(numbers)))
            self._optimizer.step(self.next_step + 1, rate, norm, self._job.maxGradientNorm, self._diverged)
        else:
            numbers = numbers.tolist()
            self._pending.append((self.next_step, rate, numbers))
            if math.isfinite(numbers[0] + numbers[1]):
                self._optimizer.step(self.next_step + 1, rate, norm, self._job.maxGradientNorm, None)
        self._device.mark_step()

    def _settle(self, lag):
        """Looks at all queued steps but the last `lag`."""
        while len(self._pending) > lag:
            step, rate, numbers = self._pending.popleft()
            value, norm, stops = numbers if isinstance(numbers, list) else self._device.end_read(numbers)
            if not math.isfinite(value + norm):
                raise TrainingFailure(
                    Kind.Data, f"Training stopped at step {step}: loss {value}, gradient norm {norm} is not finite.", "a smaller learningRate, or a look at the corpus")
            if stops > 0:
                # The leading process may see this earlier than the others, who look with a lag: all of them end after the same step.
                self._stop_after = min(self._stop_after, step + self._device.lag)
            self._last_loss = value
            self._report(step + 1, value, rate, norm)

    def _report(self, step, value, rate, norm):
        job = self._job
        if step % max(1, job.numSteps // _LOG_POINTS) != 0 and step != job.numSteps:
            return
        tokens_per_second = (step - self._first_step) * job.batchSize * job.sequenceLength / max(1e-9, time.monotonic() - self._started)
        self._events.progress(step, job.numSteps, "steps")
        for name, number in (
                ("loss", value), ("learning_rate", rate), ("gradient_norm", norm), ("tokens_per_second", tokens_per_second),
                ("training_flops", 6.0 * len(self._flat.weights) * tokens_per_second)):
            self._events.metric(name, number, step)

    def _load(self, step):
        """This process's rows of a step: ids and labels [A, B, T], and one over the labels of the whole batch."""
        job = self._job
        first = step * job.batchSize
        indices = first + np.arange(job.batchSize).reshape(job.accumulationSteps, self._world.size, self._rows)[:, self._world.rank]
        ids, labels = self._source.fill(indices.reshape(-1), job.sequenceLength)
        shape = (job.accumulationSteps, self._rows, job.sequenceLength)
        scale = 1.0 / max(1, self._source.num_labels(first, job.batchSize, job.sequenceLength))
        return torch.from_numpy(ids.reshape(shape)), torch.from_numpy(np.ascontiguousarray(labels).reshape(shape)), scale

    def _score(self):
        """What the leading process measures, others only hear whether there was a gain."""
        gained = torch.zeros(1, device=self._device.place)
        if self._world.leads:
            name, value = self._check.measure(self._decoder)
            if math.isfinite(value):
                self._events.metric(name, value, self.next_step)
                if self.next_step == 0:
                    self._first_score = value
                if self._job.acceptance and value > self._best_score:
                    self._best_score, self._best = value, self._flat.weights.clone()
                    gained.fill_(1)
        if self._job.acceptance and self._check.decides:
            self._world.broadcast(gained)
            self._checks_without_gain = 0 if gained.item() > 0 else self._checks_without_gain + 1

    @property
    def _is_out_of_patience(self):
        return self._job.acceptance is not None and self._checks_without_gain >= self._job.acceptance.patience

    def _initial_weights(self):
        values = split_fused(read_tensors(self._job.weights), self._job.model)
        for name, parameter in self._decoder.named_parameters():
            if name not in values or values[name].shape != parameter.shape:
                raise TrainingFailure(Kind.Data, f"The initial weights have no tensor '{name}' of shape {list(parameter.shape)}.", "weights of the model that the job describes")
        return values

    def _resume(self):
        """The leading process takes up its checkpoint, the others what it sends them: no process needs another's disk."""
        found = read_checkpoint(self._job.resumeFolder, self._job.settingsDigest) if self._world.leads else None
        if found:
            metadata, tensors = found
            for name, tensor in self._state():
                if name not in tensors or tensors[name].shape != tensor.shape:
                    raise TrainingFailure(Kind.Data, f"The checkpoint in '{self._job.resumeFolder}' has no '{name}' of {len(tensor)} numbers.", "remove it to begin again")
                tensor.copy_(tensors[name])
            self.next_step, self._best_score, self._checks_without_gain = (
                int(metadata["step"]), float(metadata["bestScore"]), int(metadata["checksWithoutGain"]))
            self._best = tensors["best"].to(self._device.place) if "best" in tensors else None
            self._last_loss = None if metadata.get("loss", "NaN") == "NaN" else float(metadata["loss"])
            if self.next_step > 0:
                self._events.log(f"Resumed at step {self.next_step} of {self._job.numSteps}.")
        counts = torch.tensor([float(self.next_step), float(self._checks_without_gain)], device=self._device.place)
        self._world.broadcast(counts)
        self.next_step, self._checks_without_gain = (int(number) for number in counts.tolist())
        for _, tensor in self._state():
            self._world.broadcast(tensor)

    def _state(self):
        return [("weights", self._flat.weights), ("moment1", self._optimizer.moment1), ("moment2", self._optimizer.moment2)]

    def _save(self):
        tensors = dict(self._state())
        if self._best is not None:
            tensors["best"] = self._best
        write_checkpoint(self._job.resumeFolder, self._job.settingsDigest, self.next_step, self._best_score, self._checks_without_gain, tensors, self._last_loss)

    def _write(self):
        """The model's weights, the best ones where some were measured, and what the stage puts into the model's meta.json."""
        if self._best is not None:
            self._flat.weights.copy_(self._best)
        stored = torch.bfloat16 if self._job.bfloat16 else torch.float32
        os.makedirs(os.path.dirname(self._job.output), exist_ok=True)
        write_tensors(self._job.output, {name: view.to(stored) for name, view in self._flat.views.items()}, {"format": "pt"})
        result = {
            "steps": self.next_step, "loss": self._last_loss, "validationLoss": self._check.last if not self._job.acceptance else None,
            "firstScore": self._first_score, "bestScore": self._best_score if math.isfinite(self._best_score) else None}
        with open(self._job.result + ".tmp", "w", encoding="utf-8") as file:
            json.dump(result, file)
        os.replace(self._job.result + ".tmp", self._job.result)
