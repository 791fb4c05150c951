"""Loss functions. They compare what they are given and never gather.

Shapes: ``B`` examples.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import relu


def triplet_margin(
    near: Float[Tensor, " B"], far: Float[Tensor, " B"], margin: float = 1.0
) -> Float[Tensor, " B"]:
    """Loss of each triplet: how much the positive is not nearer than the negative by a margin.

    ``max(0, d(a, p) - d(a, n) + margin)``: SPECTER, Cohan et al. (2020), eq. 2, with the
    Euclidean distance of vectors that are not normalised (`similarity.euclidean`).

    Args:
        near: distance of each anchor to its positive.
        far: distance of each anchor to its negative.
        margin: in the unit of the distance, 0 or more.

    Raises:
        ValueError: the margin is negative.
    """
    if margin < 0:
        raise ValueError(
            f"margin is in the unit of the distance and must be 0 or more; got {margin}."
        )
    return relu(near - far + margin)
