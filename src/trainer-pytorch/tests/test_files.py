import math
import os
import tempfile
import unittest

import torch

from fastdraft_trainer.files import CHECKPOINT, read_checkpoint, write_checkpoint
from fastdraft_trainer.protocol import Kind, TrainingFailure


class Checkpoints(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def test_what_is_written_is_read_bit_for_bit(self):
        weights = torch.randn(1000)
        write_checkpoint(self.folder, "digest", 12, -math.inf, 0, {"weights": weights})
        metadata, tensors = read_checkpoint(self.folder, "digest")
        self.assertTrue(torch.equal(tensors["weights"], weights))
        self.assertEqual((metadata["step"], metadata["bestScore"]), ("12", "-Infinity"))
        self.assertEqual(os.listdir(self.folder), [CHECKPOINT])

    def test_other_settings_have_no_checkpoint(self):
        write_checkpoint(self.folder, "digest", 12, 0.5, 0, {"weights": torch.zeros(1)})
        self.assertIsNone(read_checkpoint(self.folder, "another"))
        self.assertIsNone(read_checkpoint(os.path.join(self.folder, "nowhere"), "digest"))

    def test_a_damaged_one_is_a_data_error_that_names_it(self):
        path = os.path.join(self.folder, CHECKPOINT)
        with open(path, "wb") as file:
            file.write(b"\x80\x04not safetensors")
        with self.assertRaises(TrainingFailure) as caught:
            read_checkpoint(self.folder, "digest")
        self.assertEqual(caught.exception.kind, Kind.Data)
        self.assertIn(path, str(caught.exception))
