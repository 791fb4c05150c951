"""Loss functions. They compare what they are given and never gather.

Shapes: ``B`` examples, ``D`` width.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pairwise_distance, relu


def triplet_margin(
    anchor: Float[Tensor, "B D"],
    positive: Float[Tensor, "B D"],
    negative: Float[Tensor, "B D"],
    margin: float = 1.0,
) -> Float[Tensor, " B"]:
    """Loss of each triplet: how much the positive is not nearer than the negative by a margin.

    ``max(0, d(a, p) - d(a, n) + margin)`` with the Euclidean distance ``d`` of vectors that are
    not normalised: SPECTER, Cohan et al. (2020), eq. 2. ``d`` adds 1e-6 to each difference, as
    ``torch.nn.TripletMarginLoss`` does, so that equal vectors have a gradient.

    Args:
        anchor: the query papers' vectors.
        positive: their cited papers' vectors.
        negative: their uncited papers' vectors.
        margin: in the unit of the distance, 0 or more.

    Raises:
        ValueError: the margin is negative.
    """
    if margin < 0:
        raise ValueError(
            f"margin is in the unit of the distance and must be 0 or more; got {margin}."
        )
    near = pairwise_distance(anchor, positive)
    far = pairwise_distance(anchor, negative)
    return relu(near - far + margin)
