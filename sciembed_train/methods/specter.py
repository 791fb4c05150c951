"""SPECTER: a paper nearer to one it cites than to one it does not.

Cohan, Feldman, Beltagy, Downey and Weld (2020). SPECTER2's base stage is the same method on more
data with a larger batch.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from sciembed_train.batches import TripletBatch
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.losses import triplet_margin
from sciembed_train.methods.base import Loss, Method, cut_triplets, full_precision
from sciembed_train.optim import OptimSettings
from sciembed_train.similarity import euclidean


class Specter(Method):
    """Triplet margin loss on Euclidean distance (eq. 2 of the paper).

    Args:
        encoder: backbone, pooling, length and input format.
        optim: AdamW, its schedule and clipping.
        margin: how much farther the uncited paper must be, in the unit of the distance.
        step_tokens: most tokens of one backward pass; null for no cut.
    """

    def __init__(
        self,
        encoder: EncoderSettings,
        optim: OptimSettings = OptimSettings(),  # noqa: B008 - frozen
        margin: float = 1.0,
        step_tokens: int | None = None,
    ) -> None:
        super().__init__(encoder, optim, step_tokens)
        if margin < 0:
            raise ValueError(
                f"margin is in the unit of the distance and must be 0 or more; got {margin}."
            )
        self.margin = margin

    def loss(self, batch: TripletBatch) -> Loss:
        """Mean triplet margin loss; each distinct paper is encoded once.

        Encoding a paper once shares its dropout mask between the triplets it appears in.
        """
        vectors = full_precision(self.encoder(batch.rows))
        losses = self.held_out_loss(
            vectors[batch.anchor], vectors[batch.positive], vectors[batch.negative]
        )
        return Loss(losses.mean(), (losses > 0).sum())

    def held_out_loss(
        self,
        anchor: Float[Tensor, "B D"],
        positive: Float[Tensor, "B D"],
        negative: Float[Tensor, "B D"],
    ) -> Float[Tensor, " B"]:
        """Loss of each triplet."""
        return triplet_margin(euclidean(anchor, positive), euclidean(anchor, negative), self.margin)

    def cut(self, batch: TripletBatch, tokens: int | None) -> list[TripletBatch]:
        """The batch in pieces of whole triplets."""
        return cut_triplets(batch, tokens)

    def settings(self) -> dict[str, object]:
        """The constructor's arguments as plain values."""
        return {**super().settings(), "margin": self.margin}
