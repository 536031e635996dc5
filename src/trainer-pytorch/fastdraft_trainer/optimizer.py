"""All parameters as one flat float32 buffer, in the C# trainer's order (matrices first, each group by name), and AdamW over it.

Flat, a step is a handful of kernels however many parameters there are, the processes' gradients are one all-reduce, and the weights,
moments and gradients of a checkpoint need no names.
"""
import torch

BETA1, BETA2, EPSILON = 0.9, 0.95, 1e-8


class FlatParameters:
    """weights [P], gradients [P] and their views in the decoder; behind the gradients two numbers that the processes sum with them:
    the loss, and how many of them were asked to stop."""

    def __init__(self, decoder, values, device):
        shapes = {name: tuple(p.shape) for name, p in decoder.named_parameters()}
        # Names compare as UTF-16 in C#; they are ASCII.
        self._order = sorted(shapes, key=lambda name: (len(shapes[name]) < 2, name))
        sizes = {name: torch.Size(shapes[name]).numel() for name in self._order}
        self.num_decayed = sum(sizes[name] for name in self._order if len(shapes[name]) >= 2)
        self.weights = torch.empty(sum(sizes.values()), device=device)
        self._sums = torch.zeros(len(self.weights) + 2, device=device)
        self.views = {}
        offset = 0
        for name in self._order:
            view = self.weights[offset:offset + sizes[name]].view(shapes[name])
            view.copy_(values[name])
            self.views[name] = view
            offset += sizes[name]
        decoder.assign(self.views, requires_grad=True)
        offset = 0
        for name, parameter in ((n, dict(decoder.named_parameters())[n]) for n in self._order):
            # Autograd adds to a gradient that is there, in place: it stays a view of the buffer.
            parameter.grad = self._sums[offset:offset + sizes[name]].view(shapes[name])
            offset += sizes[name]

    @property
    def sums(self):
        """[P + 2]: what an all-reduce over the processes sums."""
        return self._sums

    @property
    def gradients(self):
        return self._sums[:-2]

    @property
    def loss(self):
        return self._sums[-2]

    @property
    def stops(self):
        return self._sums[-1]


class AdamW:
    """AdamW (1711.05101) with decay of matrices only. A subclass a device has its own kernel for overrides _update alone."""

    # Whether _update itself leaves everything as it is where the skip flag is up; otherwise the caller reads the norm first.
    skips_on_device = False

    def __init__(self, flat, weight_decay):
        self._flat, self._decay = flat, weight_decay
        self.moment1 = torch.zeros_like(flat.weights)
        self.moment2 = torch.zeros_like(flat.weights)
        decayed = flat.num_decayed
        self._groups = [
            (slice(start, end), decay) for start, end, decay in ((0, decayed, weight_decay), (decayed, len(flat.weights), 0.0)) if end > start]

    @torch.no_grad()
    def step(self, number, learning_rate, norm, max_norm, skip):
        """Update `number`, counted from 1, from the gradients clipped to max_norm; skip is a float32 scalar tensor, 1 for no update."""
        clip = (norm / max_norm).clamp_min(1)
        for part, decay in self._groups:
            self._update(*(flat[part] for flat in (self._flat.weights, self._flat.gradients, self.moment1, self.moment2)), number, learning_rate, decay, clip, skip)

    def _update(self, weights, gradients, moment1, moment2, number, rate, decay, clip, skip):
        gradients.div_(clip)
        weights.mul_(1 - rate * decay)
        moment1.lerp_(gradients, 1 - BETA1)
        moment2.mul_(BETA2).addcmul_(gradients, gradients, value=1 - BETA2)
        denominator = moment2.sqrt().div_((1 - BETA2 ** number) ** 0.5).add_(EPSILON)
        weights.addcdiv_(moment1, denominator, value=-rate / (1 - BETA1 ** number))


class CudaAdamW(AdamW):
    """torch's fused kernel: one pass, and no update where the skip flag is up, decided on the device."""

    skips_on_device = True

    def _update(self, weights, gradients, moment1, moment2, number, rate, decay, clip, skip):
        step = torch.full((), float(number), device=weights.device)
        torch._fused_adamw_(
            [weights], [gradients], [moment1], [moment2], [], [step], lr=rate, beta1=BETA1, beta2=BETA2, weight_decay=decay, eps=EPSILON,
            amsgrad=False, maximize=False, grad_scale=clip, found_inf=skip)


class HpuAdamW(AdamW):
    """Intel's fused optimizer over the two flat groups. Its state is ours: moments by the names it gives them, and the step of a group."""

    def __init__(self, flat, weight_decay, fused):
        super().__init__(flat, weight_decay)
        self._parameters = [torch.nn.Parameter(flat.weights[part], requires_grad=False) for part, _ in self._groups]
        self._fused = fused(
            [{"params": [p], "weight_decay": decay} for p, (_, decay) in zip(self._parameters, self._groups)], lr=0.0, betas=(BETA1, BETA2), eps=EPSILON)
        for parameter, (part, _) in zip(self._parameters, self._groups):
            self._fused.state[parameter].update(exp_avg=self.moment1[part], exp_avg_sq=self.moment2[part])

    @torch.no_grad()
    def step(self, number, learning_rate, norm, max_norm, skip):
        self._flat.gradients.div_((norm / max_norm).clamp_min(1))
        for group, parameter, (part, _) in zip(self._fused.param_groups, self._parameters, self._groups):
            group["lr"], group["step"] = learning_rate, number - 1
            parameter.grad = self._flat.gradients[part]
        self._fused.step()
