"""Sentence pooling: the mean over the tokens of each sentence.

Shapes: ``U`` texts, ``H`` width of a hidden state.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from sciembed_train.encoder.pooling.base import HiddenStates, Pooling


class SentenceMeans(Pooling):
    """A vector for each sentence (`Pooling.pool_sentences`), and none of a whole text.

    tsAspire and otAspire, Mysore et al. (2022), section 3.3.
    """

    per_sentence = True
    export_layout = "sentences"
    description = (
        "one for each sentence of the abstract: the mean over its tokens of the last layer"
    )

    def forward(self, states: HiddenStates) -> Float[Tensor, "U H"]:
        """Raises ValueError: there is no vector of a whole text."""
        raise ValueError(
            "this encoder has a vector for each sentence and none of a whole text (pooling "
            "sentences); call sentence_vectors or encode_sentences"
        )
