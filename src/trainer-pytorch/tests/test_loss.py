import unittest

import torch
import torch.nn.functional as F

from fastdraft_trainer import loss


class ChunkedCrossEntropy(unittest.TestCase):
    def test_value_and_gradients_are_those_of_the_whole(self):
        torch.manual_seed(1)
        hidden = torch.randn(23, 8, requires_grad=True)
        head = torch.randn(40, 8, requires_grad=True)
        labels = torch.randint(-1, 40, (23,))
        scale = 1.0 / int((labels >= 0).sum())
        whole = F.cross_entropy(hidden @ head.t(), labels, ignore_index=-1)
        whole.backward()
        for max_logits in (1, 40 * 7, 1 << 20):
            head_gradient = torch.zeros_like(head)
            value, hidden_gradient = loss.backward(hidden.detach(), head, labels, scale, head_gradient, max_logits)
            self.assertAlmostEqual(value.item(), whole.item(), places=5)
            torch.testing.assert_close(hidden_gradient, hidden.grad, atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(head_gradient, head.grad, atol=1e-6, rtol=1e-5)
            self.assertAlmostEqual(loss.mean(hidden.detach(), head, labels, max_logits), whole.item(), places=5)

    def test_a_token_that_is_out_of_the_question_costs_a_finite_number_of_nats(self):
        losses, slopes = loss.slope(torch.tensor([[500.0, 0.0]]), torch.tensor([1]))
        self.assertAlmostEqual(losses.item(), 87.3, places=1)
        self.assertEqual(slopes.tolist(), [[1.0, -1.0]])

    def test_chunks_are_equally_long(self):
        self.assertEqual(loss.chunk_rows(16384, 128256, 1 << 29), 4096)
        self.assertEqual(loss.chunk_rows(10, 128256, 1), 1)
