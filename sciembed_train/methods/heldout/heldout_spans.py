"""Scores of spans of held-out documents.

Shapes: ``A`` anchors of a batch, ``U`` rows of it, ``M`` rows that are compared, ``D`` width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.batch import DevSpans, SpanBatch
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.losses.contrastive import nt_xent
from sciembed_train.losses.masked_lm import masked_lm
from sciembed_train.losses.similarity import unit
from sciembed_train.methods.heldout.heldout_vectors import HeldOutVectors, scores_of_finite
from sciembed_train.methods.loss import full_precision, widest_float
from sciembed_train.methods.nested import NestedLoss

VALIDATION_SCORES = ("val/loss", "val/contrastive_loss", "val/mlm_loss", "val/partner_accuracy")
NESTED_SCORE = "val/partner_accuracy"


def span_vectors(
    vectors: Float[Tensor, "U D"], batch: SpanBatch
) -> tuple[Float[Tensor, "A D"], Float[Tensor, "A D"]]:
    """Unit vectors of the anchors, and of the means of each anchor's positives (DeCLUTR, eq. 1)."""
    vectors = full_precision(vectors)
    return unit(vectors[batch.anchor]), unit(vectors[batch.positive].mean(1))


class HeldOutSpans:
    """Losses and partner accuracy of fixed spans of the held-out documents.

    NT-Xent runs over the spans of all held-out documents at once, so that the number does not
    depend on the batch size; anchors are clean, as the encoder is used. MLM is of masked
    copies of the anchors. ``partner_accuracy`` is the share of the rows (anchors and averaged
    positives) whose partner is nearer than every other row; a tie is a miss, so that an encoder
    that gives every text the same vector scores 0. The original reports no validation loss.

    Args:
        temperature: of NT-Xent.
        contrastive_weight: of NT-Xent; 0 for none, and no accuracy.
        mlm_weight: of MLM; 0 for none.
        nested: has the widths at which the accuracy is taken, too; None for the full one alone.
    """

    def __init__(
        self,
        temperature: float,
        contrastive_weight: float,
        mlm_weight: float,
        nested: NestedLoss | None = None,
    ) -> None:
        self.temperature, self.nested = temperature, nested
        self.contrastive_weight, self.mlm_weight = contrastive_weight, mlm_weight
        self.clear()

    def clear(self) -> None:
        """Forget the last validation."""
        self._vectors = HeldOutVectors(columns=2)  # anchors, means of their positives
        self._mlm: list[Tensor] = []
        self._masked = 0

    def add(self, encoder: Encoder, batch: SpanBatch) -> None:
        """Encode the spans of a batch of held-out documents."""
        if self.mlm_weight:
            vectors, states = encoder.with_token_states(batch.rows, batch.masked)
            self._mlm.append(masked_lm(encoder.token_logits(states), batch.labels))
            self._masked += len(batch.labels)
        else:
            vectors = encoder(batch.rows)
        if not self.contrastive_weight:
            return
        anchors, positives = span_vectors(vectors, batch)
        first = batch.first * (len(anchors) // len(batch))
        slots = torch.arange(first, first + len(anchors), device=anchors.device)
        self._vectors.add(slots, anchors, positives)

    def scores(self, dev: DevSpans, device: torch.device) -> dict[str, float]:
        """The scores; every rank gathers the vectors of all and computes the same numbers."""
        scores: dict[str, float] = {}
        loss = 0.0
        if self.contrastive_weight:
            rows = self._gathered(device)
            if rows is None:
                return {}
            half, accuracy = len(rows) // 2, partner_accuracy(rows)
            contrastive = nt_xent(rows[:half], rows[half:], self.temperature).mean().item()
            own = {"contrastive_loss": contrastive, "partner_accuracy": accuracy}
            if self.nested is not None:
                own |= self.nested.scores("partner_accuracy", accuracy, partner_accuracy, rows)
            scores |= scores_of_finite(own, rows)
            loss += self.contrastive_weight * scores["contrastive_loss"]
        if self.mlm_weight:
            lost = torch.zeros((), device=device)
            sums = torch.tensor([0.0, self._masked], dtype=widest_float(lost), device=device)
            if self._mlm:
                sums[0] = torch.stack(self._mlm).sum()
            total, count = distributed.sum_over_ranks(sums).tolist()
            scores["mlm_loss"] = total / max(count, 1.0)
            loss += self.mlm_weight * scores["mlm_loss"]
        return {"loss": loss, **scores}

    def _gathered(self, device: torch.device) -> Tensor | None:
        """Anchors, then averaged positives, of all ranks in the order of the documents."""
        slots, (anchors, positives) = self._vectors.gather(device)
        if not len(slots):
            return None
        order = torch.argsort(slots)
        return torch.cat([anchors[order], positives[order]])


def partner_accuracy(rows: Float[Tensor, "M D"]) -> float:
    """The share of unit rows whose partner alone is nearest.

    Args:
        rows: anchors, followed by their averaged positives.
    """
    own = torch.arange(len(rows), device=rows.device)
    partner = (own + len(rows) // 2) % len(rows)
    hits = 0
    for part in own.split(1024):
        cosines = rows[part] @ rows.T
        to_partner = cosines.gather(1, partner[part].unsqueeze(1))
        nearer = cosines >= to_partner
        nearer[torch.arange(len(part), device=rows.device), part] = False
        hits += int((nearer.sum(1) == 1).sum())  # the partner alone
    return hits / len(rows)
