import unittest

import torch

from fastdraft_trainer.decoder import Decoder
from fastdraft_trainer.job import Shape
from fastdraft_trainer.optimizer import BETA1, BETA2, EPSILON, AdamW, FlatParameters

from .training import SHAPE


class FlatAdamW(unittest.TestCase):
    def test_it_is_torch_s_with_clipping_and_decay_of_matrices(self):
        torch.manual_seed(1)
        decoder = Decoder(Shape(**SHAPE), 16, torch.float32)
        values = {name: torch.randn(p.shape) for name, p in decoder.named_parameters()}
        flat = FlatParameters(decoder, values, torch.device("cpu"))
        ours = AdamW(flat, 0.1)
        theirs = {name: torch.nn.Parameter(value.clone()) for name, value in values.items()}
        reference = torch.optim.AdamW(
            [{"params": [p for p in theirs.values() if p.dim() >= 2], "weight_decay": 0.1}, {"params": [p for p in theirs.values() if p.dim() < 2], "weight_decay": 0.0}],
            lr=0.01, betas=(BETA1, BETA2), eps=EPSILON)
        for step in range(10):
            flat.sums.zero_()
            for name, parameter in decoder.named_parameters():
                gradient = torch.randn(parameter.shape)
                parameter.grad.add_(gradient)
                theirs[name].grad = gradient
            torch.nn.utils.clip_grad_norm_(theirs.values(), 1.0)
            reference.step()
            ours.step(step + 1, 0.01, flat.gradients.norm(), 1.0, None)
        for name, parameter in decoder.named_parameters():
            torch.testing.assert_close(parameter.data, theirs[name].data, atol=1e-5, rtol=1e-5)

    def test_gradients_of_a_backward_pass_land_in_the_flat_buffer(self):
        decoder = Decoder(Shape(**SHAPE), 16, torch.float32)
        flat = FlatParameters(decoder, {name: torch.randn(p.shape) for name, p in decoder.named_parameters()}, torch.device("cpu"))
        decoder(torch.arange(16)[None]).sum().backward()
        once = flat.gradients.clone()
        self.assertGreater(once.abs().sum().item(), 0)
        decoder(torch.arange(16)[None]).sum().backward()
        torch.testing.assert_close(flat.gradients, 2 * once)
