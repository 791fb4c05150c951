"""An encoder whose weights are shared out among the ranks, a layer at a time.

Every run of the backbone collects its layers from all ranks, so that all must run it equally
often, in the same order. Ranks cut their texts into unlike numbers of micro-batches; those with
fewer run along with a micro-batch that counts for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sciembed_train import distributed
from sciembed_train.batch import TokenRows
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.layers import repeated_layers
from sciembed_train.errors import UserError

# What of the encoder a method calls.
CALLS = ("forward", "with_token_states", "sentence_vectors")


def check(encoder: Encoder, trained: Iterator[nn.Parameter]) -> None:
    """Raise UserError unless a method can train with its encoder shared out."""
    instead = "Use --trainer.strategy ddp."
    if encoder.unpadded:
        raise UserError(
            "trainer.strategy fsdp needs the backbone's own forward, and encoder.forward is "
            f"unpadded. Set it to padded or auto. {instead}"
        )
    lora = encoder.settings.lora is not None
    if lora or encoder.format_reader.freezes_backbone:
        key = "lora" if lora else "adapters"
        raise UserError(
            f"trainer.strategy fsdp shares out what is trained, and encoder.{key} trains few "
            f"weights beside a frozen backbone. {instead}"
        )
    if not repeated_layers(encoder.backbone):
        raise UserError(
            f"trainer.strategy fsdp shares out the layers of a backbone, and "
            f"{encoder.settings.backbone} has no list of them. {instead}"
        )
    own = set(encoder.parameters())
    if any(p not in own for p in trained):
        raise UserError(
            "trainer.strategy fsdp shares out the encoder, and this method trains weights outside "
            f"of it. {instead}"
        )


def shard(encoder: Encoder, mesh: Any) -> None:
    """Leave each rank its part of every weight; once only.

    Each layer is collected for its own forward and backward pass; what is outside of layers
    (embeddings, a head) from the encoder's forward to the end of the backward pass.
    """
    if encoder.max_forwards_over_ranks is None:
        distributed.shard(encoder, repeated_layers(encoder.backbone), CALLS, mesh)
        encoder.max_forwards_over_ranks = distributed.largest_over_ranks


@contextmanager
def whole(encoder: Encoder) -> Iterator[None]:
    """Every rank holds all weights, and runs the encoder as often as it likes."""
    parts: list[Any] = [m for m in encoder.modules() if hasattr(m, "unshard")]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not encoder, recurse=False)


def dummy_forward(encoder: Encoder, rows: TokenRows) -> Float[Tensor, ""]:
    """Zero, of one run of the encoder over the shortest text, with gradient to every weight."""
    text = rows.select(rows.lengths.argmin().reshape(1))
    vectors = encoder.encode_probe(text)
    # A head takes no part in this run, and is exchanged with the embeddings.
    outside = [p for p in encoder.parameters() if p.requires_grad and not distributed.is_sharded(p)]
    return 0 * torch.stack([part.float().sum() for part in (vectors, *outside)]).sum()
