"""SPECTER: a paper is nearer to one it cites than to one it does not cite.

Cohan, Feldman, Beltagy, Downey and Weld (2020). SPECTER2's base stage is the same method on more
data with a larger batch.

Shapes: ``B`` triplets, ``D`` width.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from sciembed_train.batch import TripletBatch
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.losses.triplet import euclidean_margin
from sciembed_train.methods.base import MaxTokensPerBackward, Method
from sciembed_train.methods.heldout.heldout_triplets import (
    NESTED_SCORE,
    VALIDATION_SCORES,
    HeldOutTriplets,
)
from sciembed_train.methods.loss import Loss, check_margin, full_precision
from sciembed_train.optim_settings import OptimSettings


class Specter(Method):
    """Triplet margin loss on Euclidean distance (eq. 2 of the paper).

    Args:
        encoder: backbone, pooling, length and input format.
        optim: AdamW, its schedule and clipping.
        margin: how much farther the uncited paper must be, in the unit of the distance.
        max_tokens_per_backward: most tokens of one backward pass (`Method`).
        matryoshka_dims: also train the first so many numbers of each vector as a vector of its
            own: the loss is the weighted sum of the losses at these widths (`methods.nested`), the
            full one among them only if it is named. None for the full width alone. Validation
            reports ``val/map_d`` of each width d.
        matryoshka_weights: of each of ``matryoshka_dims``; none for 1 each.

    Raises:
        UserError: the margin is negative.
    """

    validation_scores: ClassVar[tuple[str, ...]] = VALIDATION_SCORES
    nested_score: ClassVar[str | None] = NESTED_SCORE
    batch_type: ClassVar[type] = TripletBatch
    examples: ClassVar[str] = "triplets"
    example_recipe: ClassVar[str] = "configs/specter.yaml"

    def __init__(
        self,
        encoder: EncoderSettings,
        optim: OptimSettings = OptimSettings(),  # noqa: B008 - frozen
        margin: float = 1.0,
        max_tokens_per_backward: MaxTokensPerBackward = "auto",
        matryoshka_dims: tuple[int, ...] = (),
        matryoshka_weights: tuple[float, ...] = (),
    ) -> None:
        check_margin(margin)
        super().__init__(
            encoder,
            optim,
            max_tokens_per_backward,
            matryoshka_dims=matryoshka_dims,
            matryoshka_weights=matryoshka_weights,
        )
        self.margin = margin
        self.triplet_loss = partial(euclidean_margin, margin=margin)
        self.held_out = HeldOutTriplets(self.triplet_loss, self.nested)

    def loss(self, batch: TripletBatch) -> Loss:
        """Mean triplet margin loss; each distinct paper is encoded once.

        Encoding a paper once shares its dropout mask between the triplets it appears in.
        """
        vectors = full_precision(self.encoder(batch.rows))
        columns = vectors[batch.anchor], vectors[batch.positive], vectors[batch.negative]
        return self.nested(self._compare, *columns)

    def _compare(
        self,
        anchors: Float[Tensor, "B D"],
        positives: Float[Tensor, "B D"],
        negatives: Float[Tensor, "B D"],
    ) -> Loss:
        losses = self.triplet_loss(anchors, positives, negatives)
        return Loss(losses.mean(), {"active_share": (losses > 0).to(losses.dtype).mean()})

    def collapsed_loss(self, batch: TripletBatch) -> float:
        """The margin: both distances are 0."""
        return self.margin
