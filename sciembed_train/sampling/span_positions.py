"""Where spans lie in a document: anchors, and positives near them.

DeCLUTR, Giorgi et al. (2021), section 3.1, with the published code's defaults. Every draw is a
function of (seed, stream, epoch, document) and the document's length alone: neither the other
documents of a batch nor its place among ranks, workers or restarts can change it.

Shapes: ``B`` documents, ``A`` anchors of each, ``P`` positives of an anchor. Lengths and starts
count tokens of a document without special tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Strategy = Literal["any", "adjacent", "subsuming"]

NO_BUCKET = np.iinfo(np.int64).max
PER_ANCHOR = 7  # uniforms: five for the length, the bucket, the place in it
PER_POSITIVE = 6  # five for the length, the place

TRAIN, HELD_OUT = 0, 1  # streams


@dataclass(frozen=True)
class Rule:
    """Which spans a document has; `spans.SpanSampling` says what each value means."""

    anchors: int
    positives: int
    max_span: int
    min_span: int
    strategy: Strategy
    reproduce: bool = False

    @property
    def uniforms(self) -> int:
        """Numbers that the spans of a document take."""
        return self.anchors * (PER_ANCHOR + self.positives * PER_POSITIVE)

    def spans(self, n: Ints, draws: Floats) -> tuple[Ints, Ints, Ints, Ints]:
        """Starts and lengths of anchors ``[B, A]``, then of positives ``[B, A, P]``.

        Args:
            n: ``[B]``, length of each document, at least ``2 * A * max_span``, or
                ``2 * A * min_span`` of those whose longest span adapts to their length.
            draws: ``[B, uniforms]``.
        """
        for_anchors, for_positives = np.split(draws, [self.anchors * PER_ANCHOR], axis=1)
        longest = np.minimum(self.max_span, n // (2 * self.anchors))
        for_anchors = for_anchors.reshape(len(n), self.anchors, PER_ANCHOR)
        starts, lengths = anchor_spans(n, longest, self.min_span, for_anchors, self.reproduce)
        near = for_positives.reshape(len(n), self.anchors, self.positives, PER_POSITIVE)
        positives = positive_spans(
            n, longest, self.min_span, starts, lengths, self.strategy, near, self.reproduce
        )
        return starts, lengths, *positives


def uniforms(seed: int, stream: int, epoch: int, documents: Ints, count: int) -> Floats:
    """Numbers from 0 to below 1, ``[B, count]``: a row is a function of its document's number.

    Philox is counter-based: its key and counter are set per document, nothing is skipped.
    """
    draws = np.empty((len(documents), count))
    bits: Any = np.random.Philox(key=0)
    generator = np.random.Generator(bits)
    key = np.array([seed % 2**64, stream], dtype=np.uint64)
    state = bits.state  # with an empty buffer
    for document, row in zip(documents.tolist(), draws, strict=True):
        state["state"] = {
            "counter": np.array([0, epoch, document, 0], dtype=np.uint64),
            "key": key,
        }
        bits.state = state  # a new generator would take twice as long
        generator.random(out=row)
    return draws


def anchor_spans(
    n: Ints, longest: Ints, shortest: int, draws: Floats, reproduce: bool = False
) -> tuple[Ints, Ints]:
    """Starts and lengths of anchors, ``[B, A]`` each.

    The document is cut into buckets of ``longest`` tokens. Each anchor takes a bucket that is
    neither another anchor's nor the neighbour of one, so that anchors lie at least a bucket
    apart, and a place within it. Its length is ``m + floor((M - m) b)``, ``b`` of Beta(4, 2).

    Buckets are chosen evenly among those left, but from the two ends where fewer are left than
    the square of the anchors still to place, as the published code does so that they suffice.

    Args:
        n: ``[B]``, length of each document, at least ``2 * A * longest``.
        longest: ``[B]``, the most tokens of a span ``M``, at least ``shortest``.
        shortest: the least, ``m``.
        draws: ``[B, A, 7]`` uniforms.
        reproduce: take an anchor's neighbours by their places in the list of buckets left, as the
            published code does: beside a gap that an earlier anchor has left, the bucket beyond
            the gap goes too, although it borders on no anchor. One or two anchors lie the same.
    """
    lengths = shortest + _floor(longest[:, None] - shortest, _fourth_of_five(draws[..., :5]))
    buckets = n // longest
    anchors = draws.shape[1]
    chosen = np.empty_like(lengths)
    gone = np.empty((len(n), 0), dtype=np.int64)
    for i in range(anchors):
        gone = _distinct(gone, buckets)
        rank = _choose(buckets - (gone < NO_BUCKET).sum(1), anchors - i, draws[:, i, 5])
        chosen[:, i] = bucket = _bucket_at(rank, gone)
        if reproduce:
            before, after = _bucket_at(rank - 1, gone), _bucket_at(rank + 1, gone)
        else:
            before, after = bucket - 1, bucket + 1
        gone = np.column_stack([gone, before, bucket, after])
    starts = chosen * longest[:, None]
    starts += _floor(longest[:, None] - lengths + 1, draws[..., 6])
    return starts, lengths


def _distinct(gone: Ints, buckets: Ints) -> Ints:
    """The buckets gone of each document, each once, in their order, `NO_BUCKET` behind them."""
    gone = np.sort(np.where((gone >= 0) & (gone < buckets[:, None]), gone, NO_BUCKET), axis=1)
    gone[:, 1:][gone[:, 1:] == gone[:, :-1]] = NO_BUCKET  # the neighbour of two
    gone.sort(axis=1)
    return gone


def _choose(left: Ints, to_place: int, draws: Floats) -> Ints:
    """The rank of a bucket among those left of each document, ``[B]``."""
    end = np.where(draws < 0.5, 0, left - 1)
    return np.where(left < to_place**2, end, _floor(left, draws))


def _bucket_at(rank: Ints, gone: Ints) -> Ints:
    """The bucket with a rank among those that are not gone, ``[B]``; none for -1 or too large."""
    bucket = rank.copy()
    for column in gone.T:
        bucket += bucket >= column
    return bucket


def positive_spans(
    n: Ints,
    longest: Ints,
    shortest: int,
    starts: Ints,
    lengths: Ints,
    strategy: Strategy,
    draws: Floats,
    reproduce: bool = False,
) -> tuple[Ints, Ints]:
    """Starts and lengths of the anchors' positives, ``[B, A, P]`` each, in tokens.

    Lengths are ``m + floor((M - m) b)``, ``b`` of Beta(2, 4); positives of one anchor are drawn
    independently. The strategies:

    - ``any``: every place where the positive touches or intersects the anchor is equally likely.
    - ``adjacent``: it ends where the anchor starts or starts where it ends, either side equally
      likely where both fit. ``M`` is cut to the tokens of the larger side, and ``m``
      too if that has less: the published code fails there. It also refuses a positive that
      starts at the document's first token; here it may (not with ``reproduce``).
    - ``subsuming``: it lies inside the anchor, whose length is its ``M``.

    Args:
        n: ``[B]``, length of each document.
        longest: ``[B]``, the most tokens of a span, ``M``.
        shortest: the least, ``m``.
        starts: of the anchors, ``[B, A]``.
        lengths: of the anchors, ``[B, A]``.
        strategy: as above.
        draws: ``[B, A, P, 6]`` uniforms: five for the length, the place.
        reproduce: an adjacent positive starts at the document's first token only where it fits
            nowhere else, and the published code fails.
    """
    start, length = starts[..., None], lengths[..., None]
    end, n = start + length, n[:, None, None]
    most = np.broadcast_to(longest[:, None, None], start.shape)
    if strategy == "subsuming":
        most = length
    elif strategy == "adjacent":
        most = np.minimum(most, np.maximum(start, n - end))
    least = np.minimum(shortest, most)
    sizes = least + _floor(most - least, _second_of_five(draws[..., :5]))
    place = draws[..., 5]
    if strategy == "adjacent":
        left, right = start - sizes >= 0, end + sizes <= n
        if reproduce:
            left &= (start > sizes) | ~right
        to_left = left & (~right | (place < 0.5))
        return np.where(to_left, start - sizes, end), sizes
    if strategy == "subsuming":
        first, last = start, end - sizes
    else:
        first, last = np.maximum(start - sizes, 0), np.minimum(end, n - sizes)
    return first + _floor(last - first + 1, place), sizes


def _fourth_of_five(draws: Floats) -> Floats:
    """Beta(4, 2): exactly how the 4th smallest of five uniforms is distributed."""
    return np.sort(draws, axis=-1)[..., 3]


def _second_of_five(draws: Floats) -> Floats:
    """Beta(2, 4): exactly how the 2nd smallest of five uniforms is distributed."""
    return np.sort(draws, axis=-1)[..., 1]


def _floor(count: Ints, draws: Floats) -> Ints:
    """Integers from 0 to below ``count``, evenly for uniform draws; 0 for a count of 0."""
    return (count * draws).astype(np.int64)
