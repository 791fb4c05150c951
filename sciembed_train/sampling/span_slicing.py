"""Spans of documents as a batch: slices of the token store, and what is hidden in them.

Nothing is decoded or tokenised again. A span longer than the encoder reads loses its tail: with
spans of up to 512 tokens and an encoder of 512, two special tokens among them, what is beyond 510
(the published code reads 508).

Shapes: ``B`` documents, ``A`` anchors of each, ``P`` positives of an anchor.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from sciembed_train.batch import SpanBatch, TokenRows
from sciembed_train.sampling.span_positions import Rule, uniforms
from sciembed_train.sampling.token_masking import Masking


@runtime_checkable
class Slices(Protocol):
    """The part of a token store that spans use."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each document, without special tokens."""
        ...

    def slices(
        self, rows: NDArray[np.integer], starts: NDArray[np.integer], lengths: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Flat ids of parts of documents, with special tokens, and the number of ids of each."""
        ...


def span_batch(
    tokens: Slices,
    documents: NDArray[np.integer],
    rule: Rule,
    masking: Masking | None,
    max_tokens: int,
    *,
    key: tuple[int, int, int],
    step: int,
    first: int = 0,
    masked_apart: bool = False,
) -> SpanBatch:
    """The spans of some documents, masked.

    Rows are the anchors, document after document, then the positives of each anchor, then, if
    they are apart, the masked copies of the anchors.

    Args:
        tokens: the corpus's token store of documents.
        documents: ``[B]``, their numbers; each is long enough for ``rule``.
        rule: which spans.
        masking: what is hidden; None for nothing.
        max_tokens: of a span that the encoder reads, special tokens not counted.
        key: seed, stream and epoch of the draws.
        step: the optimiser step the batch is for.
        first: number of the first document among the held-out ones.
        masked_apart: leave the anchors whole, and mask copies of them.
    """
    documents = np.asarray(documents, dtype=np.int64)
    a, p = rule.anchors, rule.positives
    anchors, width = len(documents) * a, min(rule.max_span, max_tokens) if masking else 0
    draws = uniforms(*key, documents, rule.uniforms + a * width)
    n = tokens.lengths[documents].astype(np.int64)
    start, length, near_start, near_length = rule.spans(n, draws[:, : rule.uniforms])
    ids, sizes = tokens.slices(
        np.concatenate([np.repeat(documents, a), np.repeat(documents, a * p)]),
        np.concatenate([start.ravel(), near_start.ravel()]),
        np.minimum(np.concatenate([length.ravel(), near_length.ravel()]), max_tokens),
    )
    masked = labels = np.empty(0, dtype=np.int64)
    if masking:
        hidden_from = 0
        # Without positives nothing is compared: whole anchors would be encoded for nothing.
        if masked_apart and p:
            hidden_from = len(ids)
            ids = np.concatenate([ids, ids[: int(sizes[:anchors].sum())]])
            sizes = np.concatenate([sizes, sizes[:anchors]])
        whole = sizes[:anchors]
        bodies = whole - len(tokens.prefix) - len(tokens.suffix)
        starts = hidden_from + np.cumsum(whole) - whole + len(tokens.prefix)
        of_anchors = draws[:, rule.uniforms :].reshape(anchors, width)
        masked, labels = masking.hide(ids, starts, bodies, of_anchors)
    return SpanBatch(
        rows=TokenRows(torch.from_numpy(ids), torch.from_numpy(sizes)),
        anchor=torch.arange(anchors),
        positive=torch.arange(anchors, anchors * (1 + p)).view(anchors, p),
        masked=torch.from_numpy(masked),
        labels=torch.from_numpy(labels),
        documents=len(documents),
        step=step,
        first=first,
    )
