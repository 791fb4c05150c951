"""How pairs of co-cited papers and of citing sentences are mined: the settings and the filters.

Shapes: ``P`` papers.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.exclusions import EXCLUDED
from sciembed_train.corpus.papers import Papers
from sciembed_train.errors import UserError

FILTERED = "an abstract that the filters leave out"
# Why a known paper is in no pair, by its number in `usable_papers`; 0 is a paper that may be.
REASONS = ("", "no title and no abstract", EXCLUDED, FILTERED)
UNKNOWN = "unknown paper"
# Where an abstract that came as one text is split to count its sentences.
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9])")

Source = Literal["given", "references", "fulltexts"]
Sentences = Literal["none", "set", "paper"]


@dataclass(frozen=True)
class CocitationMining:
    """How pairs of co-cited papers are mined.

    Args:
        cocitations_from: ``given``: contexts and counted pairs; ``references`` adds the papers
            that one paper cites, ``fulltexts`` the citing sentences of full texts.
        max_group: papers that a context may cite; the sentence is not specific to longer lists.
        min_words: words of a context, at least.
        max_words: words of a context, at most.
        require_bracket: leave out contexts without a bracket or parenthesis.
        one_per_citing: of a group's contexts in one citing paper, keep one.
        min_contexts: contexts that a group must have.
        min_count: how often a pair must be cited together.
        max_pairs: pairs of one reference list, or of one context, at most.
        min_sentences: sentences of an abstract, at least; papers with other abstracts are in no
            pair, as in the next three.
        max_sentences: sentences of an abstract, at most; no limit if 0.
        longest_sentence: words of each sentence of an abstract, at most; no limit if 0.
        short_sentence: an abstract needs a sentence of more words.
        mask_mentions: mask the citation mentions in ``--contexts``
            (`corpus.citations.citation_mentions`); those of full texts are always masked.
        sentence_pairs: also pairs of contexts, as sentences: ``set``, of those that cite the same
            two papers or more; ``paper``, of those that cite one paper in common, or more.
    """

    cocitations_from: Source = "given"
    max_group: int = 10
    min_words: int = 5
    max_words: int = 100
    require_bracket: bool = False
    one_per_citing: bool = True
    min_contexts: int = 1
    min_count: int = 1
    max_pairs: int = 1000
    min_sentences: int = 0
    max_sentences: int = 0
    longest_sentence: int = 0
    short_sentence: int = 0
    mask_mentions: bool = True
    sentence_pairs: Sentences = "none"

    def __post_init__(self) -> None:
        for name, choices in (("cocitations_from", Source), ("sentence_pairs", Sentences)):
            if getattr(self, name) not in get_args(choices):
                raise UserError(
                    f"{name} is {getattr(self, name)!r}; it is one of "
                    f"{', '.join(get_args(choices))}."
                )
        least = {"max_group": 2, "max_words": 1, "min_contexts": 1, "min_count": 1, "max_pairs": 1}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if type(value) is int and value < least.get(field.name, 0):
                least_here = least.get(field.name, 0)
                raise UserError(f"{field.name} must be {least_here} or more; got {value}.")
        for low, high in (("min_words", "max_words"), ("min_sentences", "max_sentences")):
            if 0 < getattr(self, high) < getattr(self, low):
                raise UserError(
                    f"{low} is {getattr(self, low)} and {high} {getattr(self, high)}: nothing is "
                    "both."
                )
        if self.max_pairs > 10**6:
            raise UserError(f"max_pairs must be 1,000,000 or less; got {self.max_pairs:,}.")

    @classmethod
    def faithful(cls) -> CocitationMining:
        """The settings of Aspire's own mining of abstract pairs from S2ORC."""
        return cls(
            max_group=3,
            min_words=5,
            max_words=60,
            require_bracket=True,
            min_sentences=3,
            max_sentences=20,
            longest_sentence=80,
            short_sentence=4,
            mask_mentions=False,
        )

    @property
    def filters_abstracts(self) -> bool:
        """Whether any abstract may be left out."""
        limits = self.min_sentences, self.max_sentences, self.longest_sentence, self.short_sentence
        return any(limits)

    def admits(self, sentences: Sequence[str]) -> bool:
        """Whether a paper with such an abstract may be in a pair."""
        if len(sentences) < self.min_sentences or 0 < self.max_sentences < len(sentences):
            return False
        words = [len(sentence.split()) for sentence in sentences]
        if self.longest_sentence and max(words, default=0) > self.longest_sentence:
            return False
        return not self.short_sentence or max(words, default=0) > self.short_sentence

    def refuses(self, text: str, group: int = 0) -> str | None:
        """Why a context that cites ``group`` papers is left out; None if it is not."""
        words = len(text.split())
        if group > self.max_group:
            return f"cites more than {self.max_group} papers (max_group)"
        if words < self.min_words:
            return f"fewer than {self.min_words} words (min_words)"
        if words > self.max_words:
            return f"more than {self.max_words} words (max_words)"
        if self.require_bracket and not any(bracket in text for bracket in "(["):
            return "no bracket (require_bracket)"
        return None


def usable_papers(
    papers: Papers, mining: CocitationMining, abstracts: Iterable[Any]
) -> NDArray[np.int8]:
    """Whether each paper may be in a pair, ``[P]``: 0, or the place of the reason in `REASONS`.

    ``abstracts`` are every paper's in order, text or sentences; read only where a filter is set.
    """
    why = np.where(papers.usable, 0, 1).astype(np.int8)
    if mining.filters_abstracts:
        for paper, abstract in enumerate(abstracts):
            if not why[paper] and not mining.admits(sentences_of(abstract)):
                why[paper] = 3
    why[papers.excluded] = 2
    return why


def sentences_of(abstract: str | Sequence[str]) -> list[str]:
    """An abstract's sentences; those of one text by a simple rule, good enough to count them."""
    parts = _SENTENCE.split(abstract) if isinstance(abstract, str) else abstract
    return [part for part in parts if part.strip()]
