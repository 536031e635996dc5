"""Where rows come from. A row is a pure function of its index, the index of a row of a step does not depend on how many processes
share it, and the order is the C# trainer's, bit for bit: position in the data is one number.

Shapes: B rows, T positions.
"""
import json
import os

import numpy as np

from .files import read_tensors
from .protocol import Kind, TrainingFailure

_MASK = (1 << 64) - 1


def permute(keys, indices, count):
    """A keyed bijection of [0, count) for many indices at a time: a four-round Feistel network over the next even number of bits,
    walked until it lands inside. All arrays uint64 of one shape."""
    half = 1
    while (1 << (2 * half)) < count:
        half += 1
    half, mask = np.uint64(half), np.uint64((1 << half) - 1)
    x = indices.astype(np.uint64)
    outside = np.ones(x.shape, dtype=bool)
    while outside.any():
        left, right, key = x[outside] >> half, x[outside] & mask, keys[outside]
        for turn in range(4):
            left, right = right, left ^ (_mix(key ^ _mix(right + np.uint64((turn << 56) + 1))) & mask)
        x[outside] = (left << half) | right
        outside = x >= np.uint64(count)
    return x.astype(np.int64)


def _mix(z):
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014); wraps around."""
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _keys(seed, epochs):
    return np.array([(seed + int(epoch)) & _MASK for epoch in epochs], dtype=np.uint64)


class TokenSplit:
    """One split of a token-shards folder as a single run of ids, memory-mapped."""

    def __init__(self, folder, name):
        path = os.path.join(folder, "manifest.json")
        try:
            with open(path, encoding="utf-8") as file:
                manifest = json.load(file)
            width = {"uint16": "<u2", "uint32": "<u4"}[manifest["dtype"]]
            shards = manifest["splits"][name]["shards"] if name in manifest["splits"] else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingFailure(Kind.Data, f"'{path}' is not a token-shards manifest: {error}", "the tokens output of AlignVocabulary") from error
        self.exists = shards is not None
        self._shards = [np.memmap(os.path.join(folder, os.path.basename(shard)), dtype=width, mode="r") for shard in shards or []]
        self._starts = np.cumsum([0] + [len(shard) for shard in self._shards])

    @property
    def num_tokens(self):
        return int(self._starts[-1])

    def num_windows(self, length):
        """Windows of that length, and one label beyond."""
        return max(0, (self.num_tokens - 1) // length)

    def read(self, position, out):
        """Fills out with the ids at [position, position + len(out))."""
        shard = int(np.searchsorted(self._starts, position, side="right")) - 1
        done = 0
        while done < len(out):
            part = self._shards[shard][position + done - self._starts[shard]:][:len(out) - done]
            out[done:done + len(part)] = part
            done, shard = done + len(part), shard + 1

    def read_ring(self, position, out):
        """The same where behind the last token comes the first: a window over the end is one of two documents, as most are."""
        position %= self.num_tokens
        before_end = min(len(out), self.num_tokens - position)
        self.read(position, out[:before_end])
        self.read(0, out[before_end:])


class PackedWindows:
    """Windows of a split, every window once an epoch in an order drawn from the seed; evenly mixed with a second split. Every epoch cuts the
    tokens at other places: a small corpus that is read many times is learned by heart later."""

    def __init__(self, tokens, seed, replay=None, replay_fraction=0.0):
        self._tokens, self._seed, self._replay, self._fraction = tokens, seed, replay, replay_fraction if replay else 0.0

    def num_labels(self, first, rows, length):
        return rows * length

    def fill(self, indices, length):
        """ids and labels [B, T] of the rows with these indices. A label is the next token, or -1 where it carries no loss."""
        windows = np.empty((len(indices), length + 1), dtype=np.int64)
        before = np.array([int(row * self._fraction) for row in indices], dtype=np.int64)
        # Row r is a replay row exactly when the running count of replay rows rises at r: the mix is even, not random.
        replays = np.array([int((row + 1) * self._fraction) for row in indices], dtype=np.int64) > before
        for split, chosen, places, salt in (
                (self._tokens, ~replays, indices - before, 0), (self._replay, replays, before, 0x5EED << 32)):
            if chosen.any():
                count = split.num_windows(length)
                epochs, within = np.divmod(places[chosen], count)
                keys = _keys(self._seed + salt, epochs)
                cuts, positions = permute(keys, np.zeros_like(within), length), permute(keys, within, count)
                for row, start in zip(np.flatnonzero(chosen), cuts + positions * length):
                    split.read_ring(int(start), windows[row])
        return windows[:, :-1], windows[:, 1:]


class SequenceRows:
    """Examples of a safetensors file: ids [all] int32, offsets [n + 1] int64, lossStarts [n] int32."""

    def __init__(self, path):
        tensors = read_tensors([path])
        self._ids, self._offsets, self._starts = (tensors[name].numpy() for name in ("ids", "offsets", "lossStarts"))

    def __len__(self):
        return len(self._starts)

    def __getitem__(self, index):
        """The ids, and the index of the first token that is to be predicted."""
        return self._ids[self._offsets[index]:self._offsets[index + 1]], int(self._starts[index])


class PaddedSequences:
    """One example a row, padded on the right with id 0 that carries no loss."""

    def __init__(self, rows, seed):
        self._rows, self._seed = rows, seed

    def num_labels(self, first, rows, length):
        examples = (self._rows[i] for i in self._order(np.arange(first, first + rows)))
        return sum(max(0, min(len(ids), length + 1) - max(start, 1)) for ids, start in examples)

    def fill(self, indices, length):
        ids_BT = np.zeros((len(indices), length), dtype=np.int64)
        labels_BT = np.full((len(indices), length), -1, dtype=np.int64)
        for row, index in enumerate(self._order(indices)):
            ids, start = self._rows[index]
            ids_BT[row, :min(length, len(ids))] = ids[:length]
            start, end = max(start, 1), min(len(ids), length + 1)
            labels_BT[row, start - 1:max(start, end) - 1] = ids[start:end]
        return ids_BT, labels_BT

    def _order(self, indices):
        epochs, within = np.divmod(indices, len(self._rows))
        return permute(_keys(self._seed, epochs), within, len(self._rows))


def open_source(job):
    """The rows a job trains on."""
    if job.rows:
        return PaddedSequences(SequenceRows(job.rows.file), job.rows.seed)
    replay = TokenSplit(job.windows.replay, "train") if job.windows.replay else None
    return PackedWindows(TokenSplit(job.windows.tokens, "train"), job.windows.seed, replay, job.windows.replayFraction)
