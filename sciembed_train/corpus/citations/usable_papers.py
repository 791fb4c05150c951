"""Which papers may be in a co-cited pair.

Shapes: ``P`` papers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.papers import Papers

EXCLUDED = "excluded"
FILTERED = "an abstract that the filters leave out"
# Why a known paper is in no pair, by its number in `usable_papers`; 0 is a paper that may be.
REASONS = ("", "no title and no abstract", EXCLUDED, FILTERED)
UNKNOWN = "unknown paper"
# Where an abstract that came as one text is split to count its sentences.
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])")


def usable_papers(
    papers: Papers, excluded: set[str], mining: CocitationMining, abstracts: Iterable[Any]
) -> NDArray[np.int8]:
    """Whether each paper may be in a pair, ``[P]``: 0, or the place of the reason in `REASONS`.

    ``excluded`` papers are in no pair. ``abstracts`` are every paper's in order, text or sentences;
    read only where a filter is set.
    """
    why = np.where(papers.usable, 0, 1).astype(np.int8)
    if mining.filters_abstracts:
        for paper, abstract in enumerate(abstracts):
            if not why[paper] and not mining.admits(sentences_of(abstract)):
                why[paper] = 3
    why[[papers.key[i] for i in excluded if i in papers.key]] = 2
    return why


def sentences_of(abstract: str | Sequence[str]) -> list[str]:
    """An abstract's sentences; those of one text by a simple rule, good enough to count them."""
    parts = _SENTENCE.split(abstract) if isinstance(abstract, str) else abstract
    return [part for part in parts if part.strip()]
