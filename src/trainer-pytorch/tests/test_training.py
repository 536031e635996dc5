"""Whole trainings, in processes of their own."""
import json
import os
import random
import subprocess
import sys
import unittest

import torch

from .training import PACKAGE, Training, failures, losses, terminate

KILLS = 10 if os.environ.get("FASTDRAFT_FULL") == "1" else 3


class Trainings(unittest.TestCase):
    def training(self, **changes):
        training = Training(**changes)
        self.addCleanup(training.__exit__)
        return training

    def assert_same(self, one, other):
        self.assertEqual(one.keys(), other.keys())
        for name in one:
            self.assertTrue(torch.equal(one[name], other[name]), name)

    def test_a_killed_process_costs_no_bit(self):
        training = self.training()
        codes, lines = training.run(2)
        self.assertEqual(codes, [0, 0])
        self.assertLess(losses(lines)[60], losses(lines)[1] - 1)
        seed = int(os.environ.get("FASTDRAFT_SEED", "1"))
        chance = random.Random(seed)
        for round in range(KILLS):
            victim, step = chance.randrange(2), chance.randrange(5, 30)
            with self.subTest(seed=seed, victim=victim, step=step):
                killed = training.again()
                codes, _ = killed.run(2, at_step=(step, lambda members: members[victim].kill()))
                self.assertEqual((codes[victim], codes[1 - victim]), (-9, 75))
                codes, lines = killed.run(2)
                self.assertEqual(codes, [0, 0])
                self.assertGreater(min(losses(lines)), 1, "it began again")
                self.assert_same(training.weights(), killed.weights())

    def test_one_that_died_behind_its_last_step_tells_the_same(self):
        training = self.training()
        told = []
        for _ in range(2):
            codes, lines = training.run()
            self.assertEqual(codes, [0])
            with open(training.job["result"], encoding="utf-8") as file:
                told.append((json.load(file), training.weights()))
        self.assertTrue(any("Resumed at step 60 of 60" in line.get("message", "") for line in lines))
        self.assertEqual(told[0][0], told[1][0])
        self.assertIsNotNone(told[0][0]["loss"])
        self.assert_same(told[0][1], told[1][1])

    def test_two_processes_then_one_then_two_see_the_same_rows(self):
        training = self.training(checkpointSeconds=1e9, accumulationSteps=2)
        _, whole = training.run(2)
        moved = training.again()
        codes, first = moved.run(2, at_step=(10, terminate))
        self.assertEqual(codes, [143, 143])
        codes, second = moved.run(1, at_step=(25, terminate))
        self.assertEqual(codes, [143])
        codes, third = moved.run(2)
        self.assertEqual(codes, [0, 0])
        self.assertTrue(any("Resumed at step" in line.get("message", "") for line in third))
        parts = {**losses(first), **losses(second), **losses(third)}
        self.assertEqual(parts.keys(), losses(whole).keys())
        for step, value in losses(whole).items():
            self.assertAlmostEqual(value, parts[step], delta=1e-5)

    def test_a_loss_that_is_not_finite_ends_with_the_weights_of_the_step_before(self):
        training = self.training(learningRate=1e30)
        codes, lines = training.run()
        self.assertEqual(codes, [65])
        self.assertIn("is not finite", failures(lines)[0]["message"])
        self.assertFalse(os.path.exists(training.job["output"]))

    def test_a_batch_that_does_not_divide_is_refused(self):
        codes, lines = self.training(batchSize=9, accumulationSteps=2).run()
        self.assertEqual(codes, [64])
        self.assertIn("does not divide", failures(lines)[0]["message"])

    def test_a_job_with_an_unknown_member_is_refused(self):
        codes, lines = self.training(numstep=3).run()
        self.assertEqual(codes, [64])
        self.assertIn("numstep", failures(lines)[0]["message"])

    def test_a_process_ends_with_its_lease(self):
        training = self.training()
        file = training.write()
        with subprocess.Popen(
                [sys.executable, PACKAGE, file, "--lease"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
            process.stdin.close()
            self.assertEqual(process.wait(timeout=30), -9)
