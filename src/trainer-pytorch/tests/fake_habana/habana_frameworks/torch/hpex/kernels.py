"""Stand-in for the fused attention."""
from fastdraft_trainer.decoder import causal_attention

from ... import record


class FusedSDPA:
    @staticmethod
    def apply(query, key, value, attn_mask, dropout_p, is_causal):
        assert attn_mask is None and dropout_p == 0.0 and is_causal
        record("FusedSDPA", list(query.shape), list(key.shape))
        return causal_attention(query, key, value)
