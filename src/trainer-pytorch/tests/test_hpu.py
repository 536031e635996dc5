"""The Gaudi path under a STAND-IN for habana_frameworks (fake_habana): it computes on the CPU and writes down what was called. It shows
that the calls are made, in order and with the arguments that Intel documents; not that a card accepts them."""
import json
import os
import unittest

from .training import Training, losses

FAKE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_habana")


class Gaudi(unittest.TestCase):
    def run_on_fake(self, processes=1, environment=None, **changes):
        training = Training(device="hpu", numSteps=6, **changes)
        self.addCleanup(training.__exit__)
        calls = training.path("calls.jsonl")
        codes, lines = training.run(processes, {"PYTHONPATH": FAKE, "FAKE_HABANA_CALLS": calls, **(environment or {})})
        self.assertEqual(codes, [0] * processes, lines)
        with open(calls, encoding="utf-8") as file:
            return [tuple(json.loads(line)) for line in file], losses(lines), training

    def test_eager_mode_compiles_for_hpu_and_marks_no_steps(self):
        calls, _, _ = self.run_on_fake(bfloat16=True, compile=True, accumulationSteps=2)
        names = [call[0] for call in calls]
        self.assertIn(("device", "hpu"), calls)
        self.assertIn(("autocast", "hpu", "torch.bfloat16"), calls)
        self.assertIn(("compile", "hpu_backend", False), calls)
        self.assertIn(("environment", "0", "1"), calls)
        self.assertIn("FusedSDPA", names)
        self.assertEqual(names.count("FusedAdamW"), 6)
        self.assertNotIn("mark_step", names)
        shapes = {json.dumps(call[1:]) for call in calls if call[0] == "called"}
        self.assertEqual(len(shapes), 2, f"one shape of the decoder, one of the loss: {shapes}")

    def test_lazy_mode_marks_each_micro_step_and_each_update_and_does_not_compile(self):
        calls, _, _ = self.run_on_fake(environment={"PT_HPU_LAZY_MODE": "1"}, compile=True, accumulationSteps=2)
        names = [call[0] for call in calls]
        self.assertEqual(names.count("mark_step"), 6 * (2 + 1))
        self.assertNotIn("compile", names)

    def test_processes_meet_over_hccl_and_train_as_on_cpu(self):
        calls, found, training = self.run_on_fake(processes=2)
        self.assertIn(("init_process_group", "hccl"), calls)
        _, expected = training.again(device="cpu").run(2)
        for step, value in losses(expected).items():
            self.assertAlmostEqual(value, found[step], delta=1e-5)

    def test_without_habana_frameworks_it_says_so(self):
        with Training(device="hpu") as training:
            codes, lines = training.run()
            self.assertEqual(codes, [64])
            self.assertIn("habana_frameworks", lines[-1]["message"])
