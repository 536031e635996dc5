import unittest

import numpy as np

from fastdraft_trainer.data import PackedWindows, PaddedSequences, TokenSplit, permute

from .training import Training, write_shards


class Permutations(unittest.TestCase):
    def test_every_index_is_met_once(self):
        for count in (1, 2, 5, 64, 1000):
            keys = np.full(count, 12345, dtype=np.uint64)
            self.assertEqual(sorted(permute(keys, np.arange(count), count)), list(range(count)))

    def test_keys_order_differently(self):
        orders = {tuple(permute(np.full(50, key, dtype=np.uint64), np.arange(50), 50)) for key in range(5)}
        self.assertEqual(len(orders), 5)


class Windows(unittest.TestCase):
    def setUp(self):
        self.training = Training()
        self.addCleanup(self.training.__exit__)
        self.split = TokenSplit(self.training.path("tokens"), "train")

    def test_an_epoch_has_every_token_once_across_shards_and_the_cuts_move(self):
        count, size = self.split.num_windows(16), self.split.num_tokens
        tokens = np.empty(size, dtype=np.int64)
        self.split.read(0, tokens)
        ring, found = np.concatenate([tokens, tokens]).tolist(), set()
        for epoch in range(20):
            ids, labels = PackedWindows(self.split, seed=3).fill(np.arange(count) + epoch * count, 16)
            np.testing.assert_array_equal(ids[:, 1:], labels[:, :-1])
            have = sorted(map(tuple, np.column_stack([ids, labels[:, -1]]).tolist()))
            cuts = [cut for cut in range(16) if have == sorted(tuple(ring[start:start + 17]) for start in range(cut, cut + 16 * count, 16))]
            self.assertEqual(len(cuts), 1)
            found.update(cuts)
        self.assertGreater(len(found), 8)

    def test_a_row_does_not_depend_on_the_rows_asked_for_with_it(self):
        source = PackedWindows(self.split, seed=3)
        together = source.fill(np.arange(100, 116), 16)
        for index in range(16):
            alone = source.fill(np.array([100 + index]), 16)
            np.testing.assert_array_equal(together[0][index], alone[0][0])
            np.testing.assert_array_equal(together[1][index], alone[1][0])

    def test_replay_rows_come_evenly(self):
        folder = self.training.path("replay")
        write_shards(folder, 96, 2000, splits=("train",), seed=4)
        replay = TokenSplit(folder, "train")
        ids, _ = PackedWindows(self.split, 3, replay, 1 / 3).fill(np.arange(99), 16)
        tokens = np.empty(2000, dtype=np.int64)
        replay.read(0, tokens)
        known = {tuple(np.concatenate([tokens, tokens])[start:start + 16]) for start in range(2000)}
        self.assertEqual([tuple(row) in known for row in ids], [(i + 1) // 3 > i // 3 for i in range(99)])


class Padding(unittest.TestCase):
    rows = [(np.array([5, 6, 7, 8]), 2), (np.array([1, 2]), 1), (np.arange(10, 30), 3)]

    def test_loss_begins_at_the_first_written_token_and_ends_with_the_row(self):
        source = PaddedSequences(self.rows, seed=1)
        ids, labels = source.fill(np.arange(3), 6)
        found = {tuple(i): tuple(l) for i, l in zip(ids, labels)}
        self.assertEqual(found[(5, 6, 7, 8, 0, 0)], (-1, 7, 8, -1, -1, -1))
        self.assertEqual(found[(1, 2, 0, 0, 0, 0)], (2, -1, -1, -1, -1, -1))
        self.assertEqual(found[(10, 11, 12, 13, 14, 15)], (-1, -1, 13, 14, 15, 16))
        self.assertEqual(source.num_labels(0, 3, 6), (labels >= 0).sum())
