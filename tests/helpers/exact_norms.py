"""Decoders' norms in the precision of their states: the library's own compute in fp32."""

import contextlib

import torch

from tests.helpers import contrast_training


@contextlib.contextmanager
def exact_norms():
    from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

    def qwen3(self, states):
        variance = states.pow(2).mean(-1, keepdim=True)
        return self.weight * states * torch.rsqrt(variance + self.variance_epsilon)

    def gemma3(self, states):
        return self._norm(states) * (1 + self.weight)

    kept = Qwen3RMSNorm.forward, Gemma3RMSNorm.forward
    Qwen3RMSNorm.forward, Gemma3RMSNorm.forward = qwen3, gemma3
    try:
        yield
    finally:
        Qwen3RMSNorm.forward, Gemma3RMSNorm.forward = kept


def on_a_rank(corpus: str, backbone: str, names: list[str]) -> dict[str, dict]:
    """Contrastive training by a decoder (`contrast_training.on_a_rank`)."""
    with exact_norms():
        return contrast_training.on_a_rank(corpus, backbone, names)
