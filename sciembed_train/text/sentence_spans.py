"""Where the sentences of a tokenised text stand, and what truncation leaves of them.

Shapes: ``U`` texts, ``S`` sentences of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SentenceBody:
    """Token ids of a text without special tokens, and where its sentences stand in them.

    Args:
        ids: never truncated.
        starts: first token of each sentence.
        lengths: tokens of each sentence, at least 1.
        left_out: the numbers of the sentences that have no token of their own.
    """

    ids: list[int]
    starts: list[int]
    lengths: list[int]
    left_out: list[int] = field(default_factory=list)


def truncate_sentences(
    starts: NDArray[np.integer],
    lengths: NDArray[np.integer],
    counts: NDArray[np.integer],
    bodies: NDArray[np.integer],
    max_tokens: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The sentences that remain when each text is truncated to ``max_tokens`` tokens.

    The last sentence may be shortened, later ones vanish (Aspire, Mysore et al. 2022, as coded).
    A text of which no sentence is left, such as a title alone, is one sentence: all its tokens.

    Args:
        starts: first token of each sentence in its text's body, text after text, ``[S]``.
        lengths: tokens of each sentence, ``[S]``.
        counts: sentences of each text, ``[U]``; may be 0.
        bodies: tokens of each text before truncation, ``[U]``, at least 1.
        max_tokens: tokens of a body at most.

    Returns:
        Starts and lengths ``[S']``, and counts ``[U]``, each at least 1.
    """
    counts, bodies = np.asarray(counts, np.int64), np.asarray(bodies, np.int64)
    texts = np.repeat(np.arange(len(counts)), counts)
    first, size = np.asarray(starts, np.int64), np.asarray(lengths, np.int64)
    kept = first < max_tokens
    texts, first = texts[kept], first[kept]
    size = np.minimum(size[kept], max_tokens - first)
    remaining = np.bincount(texts, minlength=len(counts))
    bare = np.flatnonzero(remaining == 0)
    order = np.argsort(np.concatenate([texts, bare]), kind="stable")
    first = np.concatenate([first, np.zeros(len(bare), np.int64)])[order]
    size = np.concatenate([size, np.minimum(bodies[bare], max_tokens)])[order]
    return first, size, np.maximum(remaining, 1)
