"""How many operations training on some texts takes, and how many a device makes in a second.

Only what the texts' own tokens need is counted: no padding, and nothing that is computed a second
time, by checkpoints or because a step was cut. A share of the peak made so does not rise where work
is wasted.

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

SIDE = 8192  # of the matrices whose product tells a device's peak


def training_flops(encoder: Encoder, lengths: Int[Tensor, " U"], predicted: int = 0) -> int | None:
    """Floating point operations of a forward and backward pass, a multiplication and addition two.

    Of a layer of width ``d`` and ``h`` inside, ``T`` tokens take ``2 T (4 d^2 + 2 d h)`` forward
    (``3 d h`` where the feed-forward part is gated; where all heads together are ``a`` wide and
    those of keys ``k``, ``2 d a + 2 d k`` for ``4 d^2``), and attention ``4 a`` for each token and
    one of its text that it sees. Where one token of each text is all that counts of the last
    layer, only its keys and values are of every token. Backward takes twice as many, through a
    frozen layer once as many, attention left out. Those of adapters and LoRA are not counted.

    Args:
        encoder: its backbone's configuration tells ``d``, ``h`` and the layers.
        lengths: tokens of each text.
        predicted: tokens that the masked-language-modelling head is asked for.

    Returns:
        None for a backbone whose configuration does not tell.
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
    inner, asking, keys, causal = 2 * d * h, d, d, False
    if family is not None:
        inner, causal = family.feed_forward_products * d * h, family.causal
        for number, layer in enumerate(family.layers(encoder.backbone)):
            windows[number] = family.window(layer)
            asking, keys = family.heads_widths(layer, d)
    sizes = lengths.long()
    tokens, texts = int(sizes.sum()), len(sizes)
    products = scores = 0
    if _one_token(encoder, causal):
        products = 2 * tokens * 2 * d * keys + 2 * texts * (2 * d * asking + inner)
        last = windows.pop()
        scores = 4 * asking * int((sizes if last is None else sizes.clamp(max=last + 1)).sum())
    products += len(windows) * 2 * tokens * (2 * d * asking + 2 * d * keys + inner)
    scores += 4 * asking * sum(_pairs(sizes, window, causal) for window in windows)
    head = 0
    if encoder.head is not None:
        head = 2 * predicted * (d * d + d * int(config.vocab_size))
    frozen = encoder.format_reader.freezes_backbone or encoder.settings.lora is not None
    return products * (2 if frozen else 3) + 3 * (scores + head)


def _one_token(encoder: Encoder, causal: bool) -> bool:
    """Whether the last layer is computed for one token of each text alone."""
    if encoder.head is not None or not encoder.format_reader.uses_pooling:
        return False
    reads = encoder.pooling.reads
    return reads == "last_token" if causal else reads.startswith("first_token")


def _pairs(sizes: Int[Tensor, " U"], window: int | None, causal: bool) -> int:
    """Pairs of a token and one that it sees, itself among them, that stand no further apart."""
    squares = sizes * sizes
    if window is not None:
        within = (2 * window + 1) * sizes - window * (window + 1)
        squares = torch.where(sizes > window, within, squares)
    # Of two tokens only the later one sees the other; and each itself.
    return int(((squares + sizes) // 2 if causal else squares).sum())


@cache
def bf16_peak(device: torch.device) -> float | None:
    """Operations a second of a large product in bf16; None where it is not a CUDA device's.

    Measured once in a process, in some milliseconds. Processors share their cores with whatever
    else runs, so a number taken once would say little of them.
    """
    if device.type != "cuda" or not torch.cuda.is_bf16_supported(including_emulation=False):
        return None
    one, other = (torch.randn(SIDE, SIDE, device=device, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(one)
    best = float("inf")
    for _ in range(10):
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        torch.mm(one, other, out=out)
        torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * SIDE**3 / best
