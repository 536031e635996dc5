"""Cross-entropy through a head without ever holding [N, V] logits, with its gradient written out: each chunk costs three matrix
products and a softmax.

Shapes: N rows (batch x time), C rows of one chunk, D hidden, V vocabulary.
"""
import math

import torch

# A label's probability counts as at least the smallest normal float32, so a token costs at most 87.3 nats and never infinity.
MAX_NATS = -math.log(1.17549435e-38)


def chunk_rows(num_rows, vocabulary, max_logits):
    """Rows of a chunk: as many as max_logits allows, and the same in every chunk but the last."""
    chunks = math.ceil(num_rows / max(1, max_logits // vocabulary))
    return math.ceil(num_rows / chunks)


def slope(logits_CV, labels_C):
    """(loss of each row [C] float32, d loss / d logits [C, V] of the logits' type). A row whose label is below 0 has neither meaning."""
    wide_CV = logits_CV.float()
    log_sum_C1 = wide_CV.logsumexp(1, keepdim=True)
    labels_C1 = labels_C.clamp_min(0)[:, None]
    loss_C = (log_sum_C1 - wide_CV.gather(1, labels_C1)).squeeze(1).clamp_max(MAX_NATS)
    is_label_CV = torch.arange(wide_CV.shape[1], device=logits_CV.device) == labels_C1
    return loss_C, ((wide_CV - log_sum_C1).exp() - is_label_CV.to(wide_CV.dtype)).to(logits_CV.dtype)


@torch.no_grad()
def backward(hidden_ND, head_VD, labels_N, scale, head_gradient_VD, max_logits, slope=slope):
    """(loss summed over labelled rows times scale, d loss / d hidden); d loss / d head is added to head_gradient_VD, which is float32."""
    head = head_VD.to(hidden_ND.dtype)
    gradient_ND = torch.empty_like(hidden_ND)
    loss = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
    rows = chunk_rows(len(hidden_ND), len(head), max_logits)
    for start in range(0, len(hidden_ND), rows):
        h_CD, labels_C = hidden_ND[start:start + rows], labels_N[start:start + rows]
        mask_C = (labels_C >= 0).to(h_CD.dtype)
        loss_C, slope_CV = slope(h_CD @ head.t(), labels_C)
        loss += (loss_C * mask_C).sum() * scale

        # The mask goes into the narrow side of each product, not into the wide one.
        gradient_ND[start:start + rows] = (slope_CV @ head) * mask_C[:, None] * scale
        head_gradient_VD.add_(slope_CV.t() @ (h_CD * mask_C[:, None]), alpha=scale)
    return loss, gradient_ND


@torch.no_grad()
def mean(hidden_ND, head_VD, labels_N, max_logits):
    """Mean loss over labelled rows, a float."""
    head, total = head_VD.to(hidden_ND.dtype), 0.0
    rows = chunk_rows(len(hidden_ND), len(head), max_logits)
    for start in range(0, len(hidden_ND), rows):
        logits = (hidden_ND[start:start + rows] @ head.t()).float()
        total += torch.nn.functional.cross_entropy(logits, labels_N[start:start + rows], ignore_index=-1, reduction="sum").item()
    return total / max(1, int((labels_N >= 0).sum()))
