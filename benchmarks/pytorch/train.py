"""Training tokens/s of the same draft model in Python torch: bf16 autocast, fused AdamW, gradient clipping, eager and compiled.

Usage: python train.py [vocabulary=128256] [hidden=768] [layers=6] [rows=16] [length=1024] [steps=20]
Run it in the same command as `FastDraft.Benchmarks train ... cuda`: only figures of one card and one minute compare.
"""
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    def __init__(self, hidden, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(hidden, hidden, bias=False) for _ in range(4))

    def forward(self, x, cos, sin):
        b, t, d = x.shape
        q, k, v = (p(x).view(b, t, self.heads, -1).transpose(1, 2) for p in (self.q, self.k, self.v))
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        return self.o(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d))


class Layer(nn.Module):
    def __init__(self, hidden, intermediate, heads):
        super().__init__()
        self.attention = Attention(hidden, heads)
        self.norm1, self.norm2 = nn.RMSNorm(hidden, eps=1e-5), nn.RMSNorm(hidden, eps=1e-5)
        self.gate, self.up = nn.Linear(hidden, intermediate, bias=False), nn.Linear(hidden, intermediate, bias=False)
        self.down = nn.Linear(intermediate, hidden, bias=False)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.norm1(x), cos, sin)
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Draft(nn.Module):
    def __init__(self, vocabulary, hidden, layers, length):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, hidden)
        heads = max(1, hidden // 64)
        self.layers = nn.ModuleList(Layer(hidden, (hidden * 8 // 3 + 31) // 32 * 32, heads) for _ in range(layers))
        self.norm = nn.RMSNorm(hidden, eps=1e-5)
        nn.init.normal_(self.embedding.weight, std=0.02)
        size = hidden // heads
        angle = torch.outer(torch.arange(length), 10000.0 ** (-torch.arange(0, size, 2) / size))
        self.register_buffer("cos", torch.cat([angle, angle], -1).cos())
        self.register_buffer("sin", torch.cat([angle, angle], -1).sin())

    def forward(self, ids, labels):
        x = self.embedding(ids)
        cos, sin = self.cos.to(torch.bfloat16), self.sin.to(torch.bfloat16)
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.cross_entropy(F.linear(self.norm(x), self.embedding.weight).flatten(0, 1), labels.flatten())


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def measure(name, forward, model, vocabulary, rows, length, steps):
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    batches = torch.randint(vocabulary, (4, 2, rows, length), device="cuda")
    for step in range(steps + 5):
        if step == 5:
            torch.cuda.synchronize()
            started = time.perf_counter()
        ids, labels = batches[step % 4]
        with torch.autocast("cuda", torch.bfloat16):
            loss = forward(ids, labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    torch.cuda.synchronize()
    rate = steps * rows * length / (time.perf_counter() - started)
    count = sum(p.numel() for p in model.parameters())
    print(f"torch {torch.__version__} {name}: {count / 1e6:.1f}M, {rows} x {length}: {rate:.0f} tokens/s, loss {loss.item():.3f}, peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB", flush=True)
    return rate


def main():
    given = [int(a) for a in sys.argv[1:]]
    vocabulary, hidden, layers, rows, length, steps = given + [128256, 768, 6, 16, 1024, 20][len(given):]
    torch.manual_seed(1)
    model = Draft(vocabulary, hidden, layers, length).cuda()
    measure("eager", model, model, vocabulary, rows, length, steps)
    measure("compile", torch.compile(model), model, vocabulary, rows, length, steps)


if __name__ == "__main__":
    main()
