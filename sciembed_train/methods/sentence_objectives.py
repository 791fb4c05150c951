"""Objectives of multi-vector Aspire: distances between two papers' sentences.

Mysore, Cohan and Hope (2022), sections 3.3 and 3.4.

Shapes: ``B`` pairs of papers, ``U`` texts, ``S`` sentences of all texts end to end, ``M`` sentences
of the text that has most, ``D`` width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sciembed_train.batch import index_ranges, on_device
from sciembed_train.errors import UserError
from sciembed_train.losses.transport import (
    TransportSettings,
    attention,
    best_match,
    sentence_distances,
    transport,
)


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
    """The sentences of each text in a row of its own."""
    sizes = counts.numpy()
    slots, device_counts = on_device(
        vectors.device, index_ranges(np.arange(len(sizes)) * most, sizes), sizes
    )
    rows = vectors.new_zeros(len(sizes) * most, vectors.shape[1]).index_copy(0, slots, vectors)
    return PaddedSentences(rows.view(len(sizes), most, -1), sentence_mask(device_counts, most))


def sentence_mask(counts: Int[Tensor, " U"], most: int) -> Bool[Tensor, "U M"]:
    """Which slots of a padded row hold a sentence."""
    return torch.arange(most, device=counts.device) < counts.unsqueeze(1)


@dataclass(frozen=True)
class Objectives:
    """What the loss adds up: the triplet loss on each distance, times its weight.

    Args:
        transport: optimal transport between all sentences (otAspire).
        aligned: the distance of the two sentences that ``data.sampling`` aligns (tsAspire;
            absAspire with its other alignment).
        best_match: the smallest distance of two sentences (maxAspire).
        attention: the mean distance weighted by a softmax (attAspire).

    Raises:
        UserError: a weight is negative, or all are 0.
    """

    transport: float = 0.0
    aligned: float = 0.0
    best_match: float = 0.0
    attention: float = 0.0

    def __post_init__(self) -> None:
        weights = asdict(self)
        for name, weight in weights.items():
            if not weight >= 0:
                raise UserError(f"objectives.{name} is {weight}; a weight is 0 or more.")
        if not any(weights.values()):
            raise UserError(
                f"All objectives are 0, so nothing is trained: give one of {', '.join(weights)} a "
                "weight, as the recipes configs/aspire_ot_*.yaml and aspire_ts_*.yaml do."
            )

    def weighted_sum(self, losses: Mapping[str, Tensor]) -> Float[Tensor, " B"]:
        """The sum of the objectives' losses, each times its weight."""
        weights = asdict(self)
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum(0)


def objective_distances(
    objectives: Objectives,
    left: PaddedSentences,
    right: PaddedSentences,
    aligned: Int[Tensor, "B 2"] | None,
    *,
    transport_settings: TransportSettings | None,
    attention_temperature: float,
) -> tuple[dict[str, Float[Tensor, " B"]], Float[Tensor, " B"]]:
    """The distance of each pair of papers by each objective; and the one that they are ranked by.

    Args:
        objectives: which distances are computed.
        left: sentences of the pairs' first papers.
        right: those of their second papers.
        aligned: the two aligned sentences of each pair; one beyond a paper's last is its last, as
            truncation may have removed it. None takes the two that match best.
        transport_settings: of optimal transport; None where it does not count.
        attention_temperature: of the softmax of ``attention``, in the unit of the distance.

    Returns:
        The distances by objective; and what transport moves costs where it counts, else the
        smallest distance of two sentences.
    """
    masks = left.mask, right.mask
    table = sentence_distances(left.vectors, right.vectors)
    nearest = ranking = best_match(table, *masks)[0]
    distances: dict[str, Tensor] = {}
    if transport_settings is not None:
        moved = transport(left.vectors, right.vectors, *masks, transport_settings)
        distances["transport"], ranking = moved.value, moved.cost
    if objectives.aligned:
        distances["aligned"] = (
            nearest if aligned is None else _aligned_distance(table, *masks, aligned)
        )
    if objectives.best_match:
        distances["best_match"] = nearest
    if objectives.attention:
        distances["attention"] = attention(table, *masks, attention_temperature)
    return distances, ranking


def _aligned_distance(
    table: Float[Tensor, "B M M"],
    left_mask: Bool[Tensor, "B M"],
    right_mask: Bool[Tensor, "B M"],
    aligned: Int[Tensor, "B 2"],
) -> Float[Tensor, " B"]:
    """The distance of the two aligned sentences; of the last one if truncation removed it."""
    last = torch.stack([left_mask.sum(1), right_mask.sum(1)], dim=1) - 1
    left, right = torch.minimum(aligned, last).clamp(min=0).T
    return table[torch.arange(len(table), device=table.device), left, right]
