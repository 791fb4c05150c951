"""The vectors of spans that DeCLUTR compares.

Shapes: ``A`` anchors of a batch, ``U`` rows of it, ``D`` width.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from sciembed_train.batch import SpanBatch
from sciembed_train.losses.similarity import unit
from sciembed_train.methods.loss import full_precision


def span_vectors(
    vectors: Float[Tensor, "U D"], batch: SpanBatch
) -> tuple[Float[Tensor, "A D"], Float[Tensor, "A D"]]:
    """Unit vectors of the anchors, and of the means of each anchor's positives.

    The positives are averaged as they are, and the mean is normalised (eq. 1 of the paper).
    """
    vectors = full_precision(vectors)
    return unit(vectors[batch.anchor]), unit(vectors[batch.positive].mean(1))
