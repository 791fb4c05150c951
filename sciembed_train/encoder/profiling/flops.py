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
    (``3 d h`` where the feed-forward part is gated), and attention ``4 d`` for each pair of tokens
    of a text that see each other. Where the last layer's first tokens are all that counts, only its
    keys and values are of every token. Backward takes twice as many, through a frozen layer once as
    many, attention left out. Those of adapters and LoRA are not counted.

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
    inner = 2 * d * h
    if family is not None:
        inner = family.feed_forward_products * d * h
        for number, layer in enumerate(family.layers(encoder.backbone)):
            windows[number] = family.window(layer)
    sizes = lengths.long()
    tokens, texts = int(sizes.sum()), len(sizes)
    first_only = encoder.pooling.reads != "tokens" and encoder.format_reader.uses_pooling
    products = scores = 0
    if first_only and encoder.head is None:
        products = 2 * tokens * 2 * d * d + 2 * texts * (2 * d * d + inner)
        last = windows.pop()
        scores = 4 * d * int((sizes if last is None else sizes.clamp(max=last + 1)).sum())
    products += len(windows) * 2 * tokens * (4 * d * d + inner)
    scores += 4 * d * sum(_pairs(sizes, window) for window in windows)
    head = 0
    if encoder.head is not None:
        head = 2 * predicted * (d * d + d * int(config.vocab_size))
    frozen = encoder.format_reader.freezes_backbone or encoder.settings.lora is not None
    return products * (2 if frozen else 3) + 3 * (scores + head)


def _pairs(sizes: Int[Tensor, " U"], window: int | None) -> int:
    """Pairs of tokens of texts, each token with itself, that stand no further apart."""
    if window is None:
        return int((sizes * sizes).sum())
    within = (2 * window + 1) * sizes - window * (window + 1)
    return int(torch.where(sizes > window, within, sizes * sizes).sum())


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
