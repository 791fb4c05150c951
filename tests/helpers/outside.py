"""A sampling and a method that no module of the package knows: a paper and one with a near number.

A recipe names both by ``class_path``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from sciembed_train import distributed
from sciembed_train.batch import EXAMPLE_ROWS, PER_EXAMPLE, ExampleBatch, PaperBatch, TokenRows
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.methods.base import Method
from sciembed_train.methods.loss import Loss
from sciembed_train.optim import OptimSettings
from sciembed_train.sampling.base import (
    ExampleDescription,
    Examples,
    Sampling,
    TextDescription,
    fingerprint,
)
from sciembed_train.sampling.held_out_papers import PaperBatches
from sciembed_train.sampling.plan import first_indices


@dataclass(frozen=True)
class NeighbourBatch(ExampleBatch):
    """Two papers of each example, and a weight."""

    rows: TokenRows
    papers: Tensor = field(metadata=EXAMPLE_ROWS)
    weight: Tensor = field(metadata=PER_EXAMPLE)
    step: int


@dataclass(frozen=True)
class DevNeighbours:
    """The number of held-out papers."""

    papers: int

    def __len__(self) -> int:
        return self.papers


@dataclass(frozen=True)
class NeighbourSampling(Sampling):
    """Each paper with the paper ``distance`` numbers on.

    Args:
        distance: 1 or more.
    """

    takes: ClassVar[tuple[str, ...]] = ("papers",)
    needs: ClassVar[tuple[str, ...]] = ("papers",)

    distance: int = 1

    def open(self, corpus, tokenization, dev_limit) -> Neighbours:
        return Neighbours(self.distance, corpus, tokenization, dev_limit or 5)


class Neighbours(Examples):
    """The papers of a corpus, but for the last, which are held out."""

    name = "neighbours"

    def __init__(self, distance, corpus, tokenization, dev_limit) -> None:
        key = tokenization.tokenizer.key(tokenization.input_format)
        self.tokens, self.max_length = corpus.tokens(key), tokenization.max_length
        papers = np.arange(corpus.n_papers)
        self.pairs = np.stack([papers, papers + distance], axis=1)[: -dev_limit - distance]
        self.train, self.dev_papers = len(self.pairs), papers[-dev_limit:]
        self.dev = DevNeighbours(dev_limit)
        self.notes = (f"Each paper is paired with the paper {distance} on.",)
        self.fingerprint = fingerprint(corpus, [key, str(distance)], self.pairs)

    def batch(self, indices, epoch, step, share=slice(None)) -> NeighbourBatch:
        pairs = self.pairs[indices[share]]
        papers, rows = np.unique(pairs, return_inverse=True)
        ids, lengths = self.tokens.rows(papers, self.max_length)
        return NeighbourBatch(
            rows=TokenRows(torch.from_numpy(ids), torch.from_numpy(lengths)),
            papers=torch.from_numpy(rows.reshape(-1, 2)),
            weight=torch.from_numpy(1.0 + pairs[:, 0] % 3),
            step=step,
        )

    def dev_items(self, rank, world_size) -> Sequence[PaperBatch]:
        return PaperBatches(self.tokens, self.dev_papers, self.max_length, rank, world_size)

    def describe(self, corpus, plan, count) -> list[ExampleDescription]:
        paper_ids, examples = corpus.paper_ids(), []
        for number in first_indices(plan, count).tolist():
            texts = []
            for role, paper in zip(("paper", "neighbour"), self.pairs[number], strict=True):
                ids, _ = self.tokens.rows(np.array([paper]), self.max_length)
                texts.append(TextDescription(role, ids.tolist(), paper_ids[paper]))
            examples.append(ExampleDescription(f"neighbours {number}", tuple(texts)))
        return examples


class HeldOutSpread:
    """How far held-out papers are from their mean."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.vectors: list[Tensor] = []

    def add(self, encoder: Encoder, batch: PaperBatch) -> None:
        self.vectors.append(encoder(batch.rows).float())

    def scores(self, dev: DevNeighbours, device: torch.device) -> dict[str, float]:
        vectors = distributed.gather_ragged(torch.cat(self.vectors))
        assert len(vectors) <= len(dev)
        return {"loss": (vectors - vectors.mean(0)).norm(dim=1).mean().item()}


class NearNeighbours(Method):
    """The weighted distance of two papers.

    Args:
        encoder: backbone, pooling, length and input format.
        optim: the optimiser, its schedule and clipping.
        power: of the distance.
        max_tokens_per_backward: see `Method`.
    """

    def __init__(
        self,
        encoder: EncoderSettings,
        optim: OptimSettings = OptimSettings(),  # noqa: B008 - frozen
        power: float = 1.0,
        max_tokens_per_backward: Any = "auto",
    ) -> None:
        super().__init__(encoder, optim, max_tokens_per_backward)
        self.power = power
        self.split_into: list[int] = []
        self.held_out = HeldOutSpread()

    def check(self, batch: Any) -> None:
        if not isinstance(batch, NeighbourBatch):
            raise UserError(f"NearNeighbours trains on neighbours, not on {type(batch).__name__}.")

    def loss(self, batch: NeighbourBatch) -> Loss:
        left, right = self.encoder(batch.rows)[batch.papers].unbind(1)
        distance = (left - right).norm(dim=1) ** self.power
        return Loss((batch.weight * distance).mean(), {"distance": distance.mean().detach()})

    def split(self, batch: NeighbourBatch, tokens: int | None) -> list[NeighbourBatch]:
        micro_batches = batch.split(tokens)
        SPLITS.append(len(micro_batches))
        return micro_batches

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "power": self.power}


SPLITS: list[int] = []  # micro-batches of every step of this process
