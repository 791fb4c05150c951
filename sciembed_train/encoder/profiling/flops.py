"""How many operations training on some texts takes, and how many a device makes in a second.

Only operations that the texts' own tokens need are counted: no padding, and no recomputation by
checkpoints or because a step was split. So wasted work does not raise the share of the peak.

Shapes: ``U`` texts.
"""

from __future__ import annotations

import time
from functools import cache

import torch
from jaxtyping import Int
from torch import Tensor

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.unpadded.forward import family_of

SIDE = 8192  # of the matrices whose product measures a device's peak


def training_flops(encoder: Encoder, lengths: Int[Tensor, " U"], predicted: int = 0) -> int | None:
    """Floating point operations of a forward and backward pass; a multiply-add counts as two.

    Of a layer of width ``d`` and ``h`` inside, ``T`` tokens take ``2 T (4 d^2 + 2 d h)`` forward
    (``3 d h`` where the feed-forward part is gated; where all heads together are ``a`` wide and
    those of keys ``k``, ``2 d a + 2 d k`` for ``4 d^2``), and attention ``4 a`` for each pair of
    a token and one that it sees. Where the last layer is computed for one token of each text, only
    its keys and values are of every token. Backward takes twice as many; through a frozen layer as
    many, except attention, which takes twice as many. Those of adapters and LoRA are not counted.

    Args:
        encoder: its backbone's configuration gives ``d``, ``h`` and the layers.
        lengths: tokens of each text.
        predicted: tokens that the masked-language-modelling head predicts.

    Returns:
        None for a backbone whose configuration does not give these.
    """
    config = encoder.backbone.config
    d, h, layers = (
        getattr(config, name, None)
        for name in ("hidden_size", "intermediate_size", "num_hidden_layers")
    )
    if not (isinstance(d, int) and isinstance(h, int) and isinstance(layers, int)):
        return None
    family = family_of(encoder.backbone)
    windows: list[int | None] = [None] * layers
    inner, query_width, key_width, causal = 2 * d * h, d, d, False
    if family is not None:
        inner, causal = family.feed_forward_products * d * h, family.causal
        for number, layer in enumerate(family.layers(encoder.backbone)):
            windows[number] = family.window(layer)
            query_width, key_width = family.heads_widths(layer, d)
    sizes = lengths.long()
    tokens, texts = int(sizes.sum()), len(sizes)
    products = scores = 0
    if _one_token(encoder, causal):
        products = 2 * tokens * 2 * d * key_width + 2 * texts * (2 * d * query_width + inner)
        last = windows.pop()
        scores = 4 * query_width * int((sizes if last is None else sizes.clamp(max=last + 1)).sum())
    products += len(windows) * 2 * tokens * (2 * d * query_width + 2 * d * key_width + inner)
    scores += 4 * query_width * sum(_pairs(sizes, window, causal) for window in windows)
    head = 0
    if encoder.head is not None:
        head = 2 * predicted * (d * d + d * int(config.vocab_size))
    frozen = encoder.format_reader.freezes_backbone or encoder.settings.lora is not None
    return products * (2 if frozen else 3) + 3 * (scores + head)


def _one_token(encoder: Encoder, causal: bool) -> bool:
    """Whether the last layer is computed for only one token of each text."""
    if encoder.head is not None or not encoder.format_reader.uses_pooling:
        return False
    reads = encoder.pooling.reads
    return reads == "last_token" if causal else reads.startswith("first_token")


def _pairs(sizes: Int[Tensor, " U"], window: int | None, causal: bool) -> int:
    """Pairs of a token and one that it sees, itself included, at most ``window`` apart."""
    squares = sizes * sizes
    if window is not None:
        window_pairs = (2 * window + 1) * sizes - window * (window + 1)
        squares = torch.where(sizes > window, window_pairs, squares)
    # Of two tokens only the later one sees the other; and each itself.
    return int(((squares + sizes) // 2 if causal else squares).sum())


@cache
def bf16_peak(device: torch.device) -> float | None:
    """Operations a second of a large bf16 product; None unless it is a CUDA device with bf16.

    Measured once in a process, in some milliseconds. A CPU shares its cores with other programs, so
    a single measurement would say little.
    """
    if device.type != "cuda" or not torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    left, right = (torch.randn(SIDE, SIDE, device=device, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(left)
    best = float("inf")
    for _ in range(10):
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        torch.mm(left, right, out=out)
        torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best
