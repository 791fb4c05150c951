"""The loss of masked language modelling.

Shapes: ``K`` tokens to predict, ``V`` size of the vocabulary.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from sciembed_train.losses.similarity import at_least_fp32


def masked_lm(logits: Float[Tensor, "K V"], labels: Int[Tensor, " K"]) -> Float[Tensor, ""]:
    """Summed cross-entropy of predicting the masked tokens, in at least fp32.

    A sum, because ranks have unequal numbers of masked tokens: divided by the number over all
    ranks it is the mean that BERT, Devlin et al. (2019), section 3.1, trains with. Of no tokens
    it is 0, with a gradient of nothing.

    Args:
        logits: of every id of the vocabulary, for each masked token.
        labels: the ids that were masked.
    """
    return cross_entropy(at_least_fp32(logits), labels, reduction="sum")
