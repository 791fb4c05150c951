"""Sentences of texts, a row of vectors per text.

Shapes: ``U`` texts, ``S`` sentences of all texts end to end, ``M`` sentences of the text that has
most, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sciembed_train.batch import index_ranges, on_device


@dataclass(frozen=True)
class PaddedSentences:
    """The sentences of texts.

    Args:
        vectors: of each sentence, zeros after a text's last.
        mask: which slots hold a sentence.
    """

    vectors: Float[Tensor, "U M D"]
    mask: Bool[Tensor, "U M"]

    @classmethod
    def cat(cls, parts: Sequence[PaddedSentences]) -> PaddedSentences:
        """The texts of all parts, one after another."""
        vectors = torch.cat([part.vectors for part in parts])
        return cls(vectors, torch.cat([part.mask for part in parts]))


def pad_sentences(
    vectors: Float[Tensor, "S D"], counts: Int[Tensor, " U"], most: int
) -> PaddedSentences:
    """The sentences of each text in a row of its own.

    Args:
        vectors: text after text.
        counts: sentences of each text; on the host.
        most: width of a row, ``M``; no text has more sentences.
    """
    sizes = counts.numpy()
    slots, device_counts = on_device(
        vectors.device, index_ranges(np.arange(len(sizes)) * most, sizes), sizes
    )
    rows = vectors.new_zeros(len(sizes) * most, vectors.shape[1]).index_copy(0, slots, vectors)
    return PaddedSentences(rows.view(len(sizes), most, -1), sentence_mask(device_counts, most))


def sentence_mask(counts: Int[Tensor, " U"], most: int) -> Bool[Tensor, "U M"]:
    """Which slots of a padded row hold a sentence."""
    return torch.arange(most, device=counts.device) < counts.unsqueeze(1)
