"""A synthetic collection: its settings, and the texts of its papers.

Shapes: ``P`` papers, ``E`` citations, ``K`` concepts of a topic, ``R`` rows of text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

BLOCK = 4096  # rows of text generated at once: bounds memory at any number of papers


@dataclass(frozen=True)
class SyntheticSettings:
    """The size of a synthetic collection and the shares that it is drawn with.

    Args:
        papers: number of papers, at least 20.
        seed: everything follows from it.
        papers_per_topic: mean size of a topic.
        topics_per_field: topics that share one pool of concepts.
        concepts_per_field, concepts_per_topic: concepts of that pool, and of a topic.
        dialects: synonyms of each concept; a paper uses those of one dialect.
        references: mean number of citations of a paper (fewer where there are few older papers).
        same_topic, same_field: shares of citations to the own topic and to others of the field;
            the rest goes anywhere.
        same_dialect: share of citations to a paper in the same dialect.
        borrowed: share of concept words that a paper takes from another dialect.
        concept_share: share of concept words in running text (one and a half times that in titles).
        without_abstract: share of papers that have a title only.
        as_sentences: share of abstracts given as a list of sentences.
    """

    papers: int = 2000
    seed: int = 0
    papers_per_topic: int = 24
    topics_per_field: int = 6
    concepts_per_field: int = 10
    concepts_per_topic: int = 4
    dialects: int = 3
    references: float = 10.0
    same_topic: float = 0.8
    same_field: float = 0.15
    same_dialect: float = 0.1
    borrowed: float = 0.02
    concept_share: float = 0.4
    without_abstract: float = 0.08
    as_sentences: float = 0.15

    def __post_init__(self) -> None:
        if self.papers < 20:
            raise ValueError(f"a collection needs 20 papers or more; got {self.papers}.")
        if self.dialects < 2:
            raise ValueError(f"a collection needs 2 dialects or more; got {self.dialects}.")
        if self.concepts_per_topic > self.concepts_per_field:
            raise ValueError(
                f"concepts_per_topic={self.concepts_per_topic} is more than "
                f"concepts_per_field={self.concepts_per_field}."
            )
        if not 0 <= self.same_topic + self.same_field <= 1:
            raise ValueError("same_topic + same_field must lie between 0 and 1.")


@dataclass(frozen=True)
class SyntheticCollection:
    """Topics, vocabulary, papers and citations; texts are generated when they are read.

    Args:
        settings: what it was generated from.
        paper_ids: names, unrelated to age.
        topic, dialect, year: of each paper.
        field: of each topic.
        concepts: the concepts of each topic.
        citations: rows (citing, cited), sorted, without doubles; the cited paper is the older.
        words: the vocabulary: ``common`` words first, then ``dialects`` words of every concept.
        common: number of words that belong to no concept.
        emphasis: share of each of its topic's concepts in a paper; rows sum to 1.
    """

    settings: SyntheticSettings
    paper_ids: list[str]
    topic: Int[np.ndarray, " P"]
    dialect: Int[np.ndarray, " P"]
    year: Int[np.ndarray, " P"]
    field: Int[np.ndarray, " topics"]
    concepts: Int[np.ndarray, "topics K"]
    citations: Int[np.ndarray, "E 2"]
    words: np.ndarray
    common: int
    emphasis: Float[np.ndarray, "P K"]

    def word(self, concept: int, dialect: int) -> str:
        """The word of a concept in a dialect."""
        return str(self.words[self.common + concept * self.settings.dialects + dialect])

    def papers(self) -> Iterator[dict[str, Any]]:
        """Every paper as a row of ``papers.jsonl``, oldest first."""
        s = self.settings
        for block, at in enumerate(_blocks(s.papers)):
            rng = np.random.default_rng([s.seed, 1, block])
            titles = self._sentences(rng, at, rng.integers(5, 12, len(at)), 1.5 * s.concept_share)
            counts = np.clip(rng.lognormal(1.35, 0.45, len(at)), 1, 14).astype(np.int64)
            counts[rng.random(len(at)) < s.without_abstract] = 0
            owners = np.repeat(at, counts)
            body = self._sentences(rng, owners, rng.integers(6, 20, len(owners)), s.concept_share)
            as_list = rng.random(len(at)) < s.as_sentences
            empty = rng.random(len(at)) < 0.5  # real files have both null and an empty string
            ends = np.cumsum(counts)
            for row, paper in enumerate(at):
                sentences = [
                    f"{t.capitalize()}." for t in body[ends[row] - counts[row] : ends[row]]
                ]
                abstract = (
                    (sentences if as_list[row] else " ".join(sentences)) if sentences else None
                )
                if not sentences and empty[row]:
                    abstract = ""
                topic = int(self.topic[paper])
                yield {
                    "paper_id": self.paper_ids[paper],
                    "title": titles[row].capitalize(),
                    "abstract": abstract,
                    "year": int(self.year[paper]),
                    "venue": f"Annals of {self.field_name(int(self.field[topic]))}",
                    "fields_of_study": [self.field_name(int(self.field[topic]))],
                }

    def field_name(self, field: int) -> str:
        """The name of a field: its first concept's word in the first dialect."""
        return self.word(field * self.settings.concepts_per_field, 0).capitalize()

    def _sentences(
        self,
        rng: np.random.Generator,
        papers: Int[np.ndarray, " R"],
        lengths: Int[np.ndarray, " R"],
        share: float,
    ) -> list[str]:
        """One string of ``lengths[i]`` words about paper ``papers[i]``, without a full stop.

        Every string has at least one concept word.
        """
        row = np.repeat(np.arange(len(papers)), lengths)
        paper = papers[row]
        dialects = self.dialect[paper]
        borrowed = rng.random(len(row)) < self.settings.borrowed
        other_dialects = rng.integers(self.settings.dialects, size=len(row))
        dialects = np.where(borrowed, other_dialects, dialects)
        bounds = np.cumsum(self.emphasis[paper], axis=1)
        slot = (rng.random((len(row), 1)) > bounds[:, :-1]).sum(1)
        concept = self.concepts[self.topic[paper], slot]
        is_concept = rng.random(len(row)) < share
        starts = np.cumsum(lengths) - lengths
        if len(row):
            is_concept[starts + rng.integers(0, lengths)] = True
        # Zipf's law for the common words.
        weights = np.cumsum(1 / (np.arange(self.common) + 3.0))
        filler = np.searchsorted(weights, rng.random(len(row)) * weights[-1])
        synonym = self.common + concept * self.settings.dialects + dialects
        words = self.words[np.where(is_concept, synonym, filler)].tolist()
        return [" ".join(words[a : a + n]) for a, n in zip(starts, lengths, strict=True)]


def _blocks(papers: int) -> Iterator[Int[np.ndarray, " R"]]:
    for start in range(0, papers, BLOCK):
        yield np.arange(start, min(papers, start + BLOCK))
