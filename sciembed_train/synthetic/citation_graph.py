"""Draws the topics, the vocabulary and the citations of a synthetic collection.

Shapes: ``P`` papers, ``E`` citations, ``F`` of them that have an older paper to cite.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from sciembed_train.synthetic.collection import SyntheticCollection, SyntheticSettings

ONSETS = [*"bdfgklmnprstvz", "br", "dr", "gr", "kr", "pl", "pr", "sk", "st", "tr"]
VOWELS = [*"aeiou", "ai", "ei", "ou"]
CODAS = ["", "", "", "n", "r", "s", "l", "m", "x"]


def generate_collection(settings: SyntheticSettings | None = None) -> SyntheticCollection:
    """The collection of the settings; no text is generated yet."""
    s = settings or SyntheticSettings()
    rng = np.random.default_rng([s.seed, 0])
    topics = max(2, round(s.papers / s.papers_per_topic))
    fields = max(1, round(topics / s.topics_per_field))
    field = np.arange(topics) % fields
    pool = rng.permuted(np.tile(np.arange(s.concepts_per_field), (topics, 1)), axis=1)
    concepts = field[:, None] * s.concepts_per_field + pool[:, : s.concepts_per_topic]
    common = 400
    words = _vocabulary(rng, common, fields * s.concepts_per_field * s.dialects)
    topic = rng.choice(topics, s.papers, p=rng.dirichlet(np.full(topics, 8.0)))
    dialect = rng.integers(s.dialects, size=s.papers)
    # The number of papers grows every year.
    year = 1980 + (40 * (np.arange(s.papers) / s.papers) ** 0.5).astype(np.int64)
    citations = _citations(rng, s, topic, dialect, field[topic])
    emphasis = rng.gamma(4.0, size=(s.papers, s.concepts_per_topic))
    numbers = rng.permutation(s.papers)
    width = max(5, len(str(s.papers)))
    return SyntheticCollection(
        settings=s,
        paper_ids=[f"w{n:0{width}d}" for n in numbers],
        topic=topic,
        dialect=dialect,
        year=year,
        field=field,
        concepts=concepts,
        citations=citations,
        words=words,
        common=common,
        emphasis=emphasis / emphasis.sum(1, keepdims=True),
    )


def shuffle_cited(
    citations: Int[np.ndarray, "E 2"], papers: int, rng: np.random.Generator
) -> Int[np.ndarray, "E 2"]:
    """The same citations with the cited papers permuted: as many, without information.

    Papers are permuted, not edges, so that how often a paper is cited is not learned either.
    """
    permuted = np.stack([citations[:, 0], rng.permutation(papers)[citations[:, 1]]], 1)
    permuted = permuted[permuted[:, 0] != permuted[:, 1]]
    return np.unique(permuted, axis=0).astype(citations.dtype)


def _vocabulary(rng: np.random.Generator, common: int, concepts: int) -> np.ndarray:
    """Distinct pronounceable words: short ones for ``common``, longer ones for concepts."""
    seen: set[str] = set()
    words: list[str] = []
    for count, syllables in ((common, (1, 2)), (concepts, (2, 3))):
        while count:
            parts = rng.choice(syllables)
            word = "".join(
                ONSETS[rng.integers(len(ONSETS))]
                + VOWELS[rng.integers(len(VOWELS))]
                + CODAS[rng.integers(len(CODAS))]
                for _ in range(parts)
            )
            if word not in seen:
                seen.add(word)
                words.append(word)
                count -= 1
    return np.array(words, dtype=object)


def _citations(
    rng: np.random.Generator,
    s: SyntheticSettings,
    topic: Int[np.ndarray, " P"],
    dialect: Int[np.ndarray, " P"],
    field: Int[np.ndarray, " P"],
) -> Int[np.ndarray, "E 2"]:
    """Citations to older papers, in proportion to their fitness.

    Fitness is Pareto, hence the heavy tail of the in-degree, and grows with the year, hence the
    preference for recent papers. The older papers of a group are one stretch of the cumulated
    fitness, so every draw is one binary search.
    """
    papers = s.papers
    wanted = rng.negative_binomial(4, 4 / (4 + s.references), papers) + 1
    citing = np.repeat(np.arange(papers), wanted)
    kind = rng.random(len(citing))
    # The group that is cited: the own topic, a topic of the own field, or any.
    topics_of_field: dict[int, np.ndarray] = {
        int(f): np.unique(topic[field == f]) for f in np.unique(field)
    }
    table = np.full((int(field.max()) + 1, max(map(len, topics_of_field.values()))), -1)
    sizes = np.ones(len(table), dtype=np.int64)
    for f, ts in topics_of_field.items():
        table[f, : len(ts)] = ts
        sizes[f] = len(ts)
    own_field = field[citing]
    same_field = table[own_field, rng.integers(0, sizes[own_field])]
    cited_topic = np.where(kind < s.same_topic, topic[citing], same_field)
    other_dialect = (dialect[citing] + rng.integers(1, s.dialects, len(citing))) % s.dialects
    same = rng.random(len(citing)) < s.same_dialect
    group = cited_topic * s.dialects + np.where(same, dialect[citing], other_dialect)

    own_group = topic * s.dialects + dialect
    fitness = (1 + rng.pareto(1.3, papers)) * np.exp(3.0 * np.arange(papers) / papers)
    anywhere = kind >= s.same_topic + s.same_field
    one_group = np.zeros(papers, dtype=np.int64)
    pairs = [
        _draw_older(rng, fitness, own_group, citing[~anywhere], group[~anywhere]),
        _draw_older(rng, fitness, one_group, citing[anywhere], one_group[citing[anywhere]]),
    ]
    return np.unique(np.concatenate(pairs), axis=0).astype(np.int32)


def _draw_older(
    rng: np.random.Generator,
    fitness: Float[np.ndarray, " P"],
    member: Int[np.ndarray, " P"],
    citing: Int[np.ndarray, " E"],
    group: Int[np.ndarray, " E"],
) -> Int[np.ndarray, "F 2"]:
    """One older paper of ``group[e]`` for each ``citing[e]``; those without any are left out."""
    papers = len(fitness)
    order = np.argsort(member, kind="stable")  # by group, then by age
    cumulated = np.concatenate([[0.0], np.cumsum(fitness[order])])
    keys = member[order] * papers + order
    first = np.searchsorted(keys, group * papers)
    stop = np.searchsorted(keys, group * papers + citing)
    has_older = stop > first
    citing, first, stop = citing[has_older], first[has_older], stop[has_older]
    low, high = cumulated[first], cumulated[stop]
    drawn = np.searchsorted(cumulated, low + rng.random(len(citing)) * (high - low), "right") - 1
    return np.stack([citing, order[np.clip(drawn, first, stop - 1)]], 1)
