"""Scores of held-out pairs of several sources.

Shapes: ``P`` held-out texts, ``D`` width, ``B`` pairs of a source.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sciembed_train.batch import DevPairs, DevPairSource, PaperBatch
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.losses.contrastive import Allowed, info_nce
from sciembed_train.losses.similarity import unit
from sciembed_train.methods.heldout.heldout_triplets import ranking_scores
from sciembed_train.methods.heldout.heldout_vectors import HeldOutVectors, scores_of_finite
from sciembed_train.methods.in_batch_negatives import outside_pairs
from sciembed_train.methods.loss import full_precision
from sciembed_train.methods.nested import NestedLoss

SOURCES = ("citations", "cocitations", "title_abstract", "abstract_halves")
SCORES = ("loss", "mrr", "recall@10", "map")
SOURCE_SCORES = ("loss", "accuracy", "map")
VALIDATION_SCORES = (
    *(f"val/{name}" for name in SCORES),
    *(f"val/{source}_{name}" for source in SOURCES for name in SOURCE_SCORES),
)
NESTED_SCORE = "val/map"


class HeldOutPairs:
    """Loss, accuracy and ranking of the held-out pairs of each source.

    InfoNCE runs over all held-out pairs of a source at once, so that the number does not depend on
    the batch size. ``accuracy`` is the share of pairs whose positive is more similar to the anchor
    than every other allowed positive; a tie is a miss. ``map`` ranks the texts of the source's
    pool (of papers all its papers, of parts the positives) by cosine for each query.

    Args:
        temperature: of the loss, as it is now.
        nested: has the widths at which the first source is ranked, too; None for the full one
            alone.
    """

    def __init__(self, temperature: Callable[[], float], nested: NestedLoss | None = None) -> None:
        self.temperature, self.nested = temperature, nested
        self.clear()

    def clear(self) -> None:
        """Forget the vectors of the last validation."""
        self._vectors = HeldOutVectors()

    def add(self, encoder: Encoder, batch: PaperBatch) -> None:
        """Encode a batch of held-out texts."""
        self._vectors.add(batch.slots, unit(full_precision(encoder(batch.rows))))

    def scores(self, dev: DevPairs, device: torch.device) -> dict[str, float]:
        """The scores of each source, and of all.

        ``loss`` is the mean of the sources' losses by their weights; ``mrr``, ``recall@10`` and
        ``map`` are those of the first source, of citations where there are any; so is ``map_d``, of
        the first d numbers of the vectors. Every rank receives all vectors and computes the same
        numbers. Only pairs both of whose texts were encoded count (Lightning may be set to validate
        on a part).
        """
        table = self._vectors.table(dev.texts, device)
        if table is None:
            return {}
        vectors, encoded = table
        scores: dict[str, float] = {}
        total, weights = 0.0, 0.0
        for source in dev.sources:
            own = self._source(source, vectors, encoded)
            if not own:
                continue
            if not scores:
                scores = {name: own[name] for name in SCORES[1:]}
                if self.nested is not None:
                    average = partial(self._average_precision, source, encoded)
                    scores |= self.nested.scores("map", own["map"], average, vectors)
            scores |= {f"{source.name}_{name}": own[name] for name in SOURCE_SCORES}
            total += source.weight * own["loss"]
            weights += source.weight
        return {"loss": total / weights, **scores} if weights else {}

    def _source(
        self, source: DevPairSource, vectors: Float[Tensor, "P D"], encoded: Bool[Tensor, " P"]
    ) -> dict[str, float]:
        device = vectors.device
        anchor, positive = source.anchor.to(device), source.positive.to(device)
        kept = encoded[anchor] & encoded[positive]
        if not bool(kept.any()):
            return {}
        anchors, positives = vectors[anchor], vectors[positive]
        allowed = _among(outside_pairs(source.excluded.to(device), len(source)), kept)
        back = _among(outside_pairs(source.excluded_back.to(device), len(source)), kept)
        losses = info_nce(
            anchors, positives, self.temperature(), allowed=allowed, allowed_back=back
        )
        hits = 0
        for part in torch.arange(len(source)).split(1024):
            rows = slice(int(part[0]), int(part[-1]) + 1)
            similarities = anchors[rows] @ positives.T
            own = (anchors[rows] * positives[rows]).sum(1, keepdim=True)
            # A tie is a miss, also one that the last digit hides.
            as_near = (similarities >= own - 1e-6) & allowed(rows)
            as_near[torch.arange(len(part)), part] = False
            hits += int((~as_near.any(1) & kept[rows]).sum())
        candidates = _candidates(source, encoded)
        ranked = ranking_scores(vectors, candidates, anchor[kept], positive[kept])
        names = ("mrr", "recall@10", "map")
        scores = {
            "loss": losses[kept].mean().item(),
            "accuracy": hits / int(kept.sum()),
            **dict(zip(names, ranked, strict=True)),
        }
        return scores_of_finite(scores, vectors[candidates], anchors[kept], positives[kept])

    def _average_precision(
        self, source: DevPairSource, encoded: Bool[Tensor, " P"], vectors: Float[Tensor, "P D"]
    ) -> float:
        """``map`` of a source by vectors of any width."""
        anchor, positive = source.anchor.to(vectors.device), source.positive.to(vectors.device)
        kept = encoded[anchor] & encoded[positive]
        candidates = _candidates(source, encoded)
        return ranking_scores(vectors, candidates, anchor[kept], positive[kept])[2]


def _candidates(source: DevPairSource, encoded: Bool[Tensor, " P"]) -> Bool[Tensor, " P"]:
    """The texts of a source's pool that were encoded."""
    pool = torch.zeros_like(encoded)
    pool[source.pool.to(encoded.device)] = True
    return encoded & pool


def _among(allowed: Allowed, kept: Bool[Tensor, " B"]) -> Allowed:
    """The candidates that are allowed and ``kept``."""
    return lambda rows: allowed(rows) & kept
