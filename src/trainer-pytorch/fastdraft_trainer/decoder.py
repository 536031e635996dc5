"""The Llama-family decoder of the C# side (Models/Decoder.cs) in plain PyTorch: Hugging Face's parameter names, hidden states out.

Shapes: B batch, T positions, D hidden, V vocabulary, H heads, K key-value heads, S head size.
"""
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def causal_attention(query, key, value):
    """[B, H, T, S] each. The fused operation where this torch has it."""
    if hasattr(F, "scaled_dot_product_attention"):
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    length = query.shape[2]
    scores = (query @ key.transpose(2, 3)).float() * query.shape[3] ** -0.5
    hidden = torch.ones(length, length, dtype=torch.bool, device=query.device).triu(1)
    return scores.masked_fill(hidden, float("-inf")).softmax(-1).to(value.dtype) @ value


class Weight(nn.Module):
    """A parameter named <module>.weight."""

    def __init__(self, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape, device="meta"))


class RmsNorm(Weight):
    """Over the root mean square in float32, whatever the dtype."""

    def __init__(self, size, epsilon):
        super().__init__(size)
        self._epsilon = epsilon

    def forward(self, x):
        wide = x.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._epsilon)
        return (normed * self.weight).to(x.dtype)


class Linear(Weight):
    def forward(self, x):
        return F.linear(x, self.weight)


class Attention(nn.Module):
    def __init__(self, shape, attention):
        super().__init__()
        self._shape, self._attention = shape, attention
        query, key = shape.numHeads * shape.headSize, shape.numKeyValueHeads * shape.headSize
        self.q_proj = Linear(query, shape.hiddenSize)
        self.k_proj = Linear(key, shape.hiddenSize)
        self.v_proj = Linear(key, shape.hiddenSize)
        self.o_proj = Linear(shape.hiddenSize, query)

    def forward(self, x_BTD, cos, sin):
        batch, length, _ = x_BTD.shape
        query, key, value = (
            project(x_BTD).view(batch, length, heads, self._shape.headSize).transpose(1, 2)
            for project, heads in ((self.q_proj, self._shape.numHeads), (self.k_proj, self._shape.numKeyValueHeads), (self.v_proj, self._shape.numKeyValueHeads)))
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        groups = self._shape.numHeads // self._shape.numKeyValueHeads
        if groups > 1:
            key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        return self.o_proj(self._attention(query, key, value).transpose(1, 2).reshape(batch, length, -1))


class FeedForward(nn.Module):
    """SwiGLU (2002.05202)."""

    def __init__(self, shape):
        super().__init__()
        self.gate_proj = Linear(shape.intermediateSize, shape.hiddenSize)
        self.up_proj = Linear(shape.intermediateSize, shape.hiddenSize)
        self.down_proj = Linear(shape.hiddenSize, shape.intermediateSize)

    def forward(self, x_BTD):
        return self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))


class Layer(nn.Module):
    def __init__(self, shape, attention):
        super().__init__()
        self.input_layernorm = RmsNorm(shape.hiddenSize, shape.rmsNormEpsilon)
        self.self_attn = Attention(shape, attention)
        self.post_attention_layernorm = RmsNorm(shape.hiddenSize, shape.rmsNormEpsilon)
        self.mlp = FeedForward(shape)

    def forward(self, x_BTD, cos, sin):
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), cos, sin)
        return x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))


class Backbone(nn.Module):
    def __init__(self, shape, attention):
        super().__init__()
        self.embed_tokens = Weight(shape.vocabularySize, shape.hiddenSize)
        self.layers = nn.ModuleList(Layer(shape, attention) for _ in range(shape.numLayers))
        self.norm = RmsNorm(shape.hiddenSize, shape.rmsNormEpsilon)


class Decoder(nn.Module):
    """Made without memory: its parameters become views of a flat buffer (see FlatParameters) or tensors that are loaded."""

    def __init__(self, shape, length, compute, attention=causal_attention):
        super().__init__()
        self.model = Backbone(shape, attention)
        if not shape.tieWordEmbeddings:
            self.lm_head = Weight(shape.vocabularySize, shape.hiddenSize)
        self._compute = compute
        cos, sin = rope_tables(shape, length)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @property
    def head(self):
        """[V, D]"""
        return (self.lm_head if hasattr(self, "lm_head") else self.model.embed_tokens).weight

    def forward(self, ids_BT):
        """Hidden states [B, T, D] after the final norm, of the compute type; causal, positions 0..T-1."""
        length = ids_BT.shape[1]
        cos, sin = self.cos[:length].to(self._compute), self.sin[:length].to(self._compute)
        x_BTD = F.embedding(ids_BT, self.model.embed_tokens.weight).to(self._compute)
        for layer in self.model.layers:
            x_BTD = layer(x_BTD, cos, sin)
        return self.model.norm(x_BTD)

    def assign(self, tensors, requires_grad):
        """Puts tensors in the place of the parameters of these names; no values are copied."""
        for name, tensor in tensors.items():
            owner = self.get_submodule(name.rpartition(".")[0])
            owner.weight = nn.Parameter(tensor, requires_grad=requires_grad)
        return self


def rotate(x, cos, sin):
    """Rotary positions (2104.09864), half-split: x [*, T, S] with cos and sin [T, S / 2]."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def rope_tables(shape, length):
    """cos and sin [T, S / 2]: float32 like the reference implementation, in which the angle itself is rounded."""
    angles = np.arange(length, dtype=np.float32)[:, None] * np.array(shape.ropeFrequencies, dtype=np.float32)[None, :]
    magnitude = np.float32(shape.ropeMagnitude)
    return torch.from_numpy(np.cos(angles) * magnitude), torch.from_numpy(np.sin(angles) * magnitude)


def split_fused(tensors, shape):
    """A checkpoint under this decoder's names: Phi-3 keeps query, key and value in one matrix, gate and up in another."""
    query, key = shape.numHeads * shape.headSize, shape.numKeyValueHeads * shape.headSize
    parts = {
        "self_attn.qkv_proj": (("self_attn.q_proj", query), ("self_attn.k_proj", key), ("self_attn.v_proj", key)),
        "mlp.gate_up_proj": (("mlp.gate_proj", shape.intermediateSize), ("mlp.up_proj", shape.intermediateSize))}
    split = {}
    for name, tensor in tensors.items():
        fused = next((f for f in parts if name.endswith(f + ".weight")), None)
        if fused is None:
            split[name] = tensor
            continue
        names, rows = zip(*parts[fused])
        split.update({name.replace(fused, part): piece for part, piece in zip(names, tensor.split(rows))})
    return split
