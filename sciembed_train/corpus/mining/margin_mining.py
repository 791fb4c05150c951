"""SPECTER's own format: triplets from counted relations by the margin rule.

``data.json`` has for each query its related papers and how closely they are related: count 5 for a
paper it cites, 1 for one that a cited paper cites. The rule of its training script, for ``k``
triplets of a query, margin ``m`` = ``margin_fraction`` of the spread between the highest and the
lowest count (of a spread of exactly 1: 1):

- no triplet at all from fewer than 3 related papers or from equal counts;
- hard negatives have a count below highest - m; a triplet takes one at random and a positive at
  random among those with a count above the negative's + m; there are as many as wanted, at most
  the number of (other paper, hard negative) pairs;
- easy triplets fill up to ``k``: a positive with a count above lowest + m, and any paper of
  ``metadata.json`` that is neither related nor the query itself.

Draws are with replacement, as in that script; the seed and the query's id seed
the generator. Ids of the same text are one paper: related once, with its highest count, in the
split of the latest list that names it; a negative is never the query or the positive under
another id.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import Audit, BadRow, Reasons, list_reasons
from sciembed_train.corpus.exclusions import EXCLUDED
from sciembed_train.corpus.mining.triplet_mining import TripletMining
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.base import numbered
from sciembed_train.corpus.readers.json_members import iter_json
from sciembed_train.corpus.store.corpus_files import SPLITS, Split
from sciembed_train.corpus.validation import spell
from sciembed_train.errors import UserError

CITES = 5  # the count of a paper that the query cites

FEW = "fewer than 3 related papers"
EQUAL = "all its related papers have the same count"
CLOSE = "no related paper stands above the lowest count by more than the margin"


@dataclass
class MarginResult:
    """The result of the rule for the queries of one split, of which there are ``queries``.

    ``by_rule`` counts hard and easy triplets before papers without a text are dropped; ``rows`` and
    ``hard`` are the triplets whose papers all have one, as keys. ``dropped`` counts triplets, and
    ``empty`` queries without any, by reason.
    """

    queries: int = 0
    by_rule: dict[str, int] = field(default_factory=lambda: {"hard": 0, "easy": 0})
    rows: list[tuple[int, int, int]] = field(default_factory=list)
    hard: list[bool] = field(default_factory=list)
    dropped: Reasons = field(default_factory=Reasons)
    empty: Reasons = field(default_factory=Reasons)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``report.json``."""
        return {
            "queries": self.queries,
            "triplets by the rule": self.by_rule,
            "kept": len(self.rows),
            "dropped triplets": self.dropped.as_dict(),
            "queries without a triplet": self.empty.as_dict(),
        }

    def explain(self) -> str:
        """One sentence on the triplets of the split's queries."""
        hard, easy = self.by_rule["hard"], self.by_rule["easy"]
        text = (
            f"by SPECTER's rule its {self.queries:,} queries give {hard + easy:,} triplets, "
            f"{hard:,} with a hard and {easy:,} with an easy negative"
        )
        if self.empty:
            text += f" (queries without any: {list_reasons(self.empty)})"
        if self.dropped:
            dropped = sum(d.count for d in self.dropped.values())
            why = list_reasons(self.dropped)
            text += f"; of these {dropped:,} are dropped for missing text ({why})"
        return text


def margin_triplets(
    query: str,
    counts: Mapping[str, float],
    universe: Sequence[str],
    settings: TripletMining,
    rng: np.random.Generator,
) -> list[tuple[str, str, bool]] | str:
    """The (positive, negative, is hard) of one query, or why there is none.

    ``counts`` are those of its related papers; easy negatives are drawn from ``universe``.
    """
    if len(counts) < 3:
        return FEW
    related = sorted(counts, key=lambda paper_id: (-counts[paper_id], paper_id))
    highest, lowest = counts[related[0]], counts[related[-1]]
    spread = highest - lowest
    margin = settings.margin_fraction * spread
    if spread == 1 and isinstance(highest, int) and isinstance(lowest, int):
        margin = 1
    if margin <= 0:
        return EQUAL
    pool = [paper_id for paper_id in related if counts[paper_id] < highest - margin]
    chosen: list[tuple[str, str, bool]] = []
    for _ in range(min(settings.hard, (len(related) - len(pool)) * len(pool))):
        negative = pool[rng.integers(len(pool))]
        above = [paper_id for paper_id in related if counts[paper_id] > counts[negative] + margin]
        chosen.append((above[rng.integers(len(above))], negative, True))
    positives = [paper_id for paper_id in related if counts[paper_id] > lowest + margin]
    while positives and len(chosen) < settings.per_query:
        negative = _unrelated(query, counts, universe, rng)
        if negative is None:
            break
        chosen.append((positives[rng.integers(len(positives))], negative, False))
    return chosen or CLOSE


def _unrelated(
    query: str, counts: Mapping[str, float], universe: Sequence[str], rng: np.random.Generator
) -> str | None:
    for _ in range(32 if universe else 0):
        candidate = universe[int(rng.integers(len(universe)))]
        if candidate != query and candidate not in counts:
            return candidate
    # Nearly everything is related, or the draws were unlucky: look at all.
    left = [candidate for candidate in universe if candidate != query and candidate not in counts]
    return left[int(rng.integers(len(left)))] if left else None


def mine_margin(
    data: Path,
    lists: Mapping[Split, set[str]],
    papers: Papers,
    settings: TripletMining,
    seed: int,
    audit: Audit,
) -> tuple[dict[Split, MarginResult], NDArray[np.int32]]:
    """Triplets of every split from ``data.json``, and the citations in it.

    Raises:
        UserError: the file has another structure, or more malformed rows than allowed.
    """
    results: dict[Split, MarginResult] = {
        split: MarginResult(queries=len(ids)) for split, ids in lists.items()
    }
    waiting = _splits_by_query(lists, papers)
    is_first = papers.first == np.arange(len(papers.ids))
    universe = [papers.ids[paper] for paper in np.flatnonzero(is_first & ~papers.excluded).tolist()]
    excluded = {papers.ids[paper] for paper in np.flatnonzero(papers.excluded).tolist()}
    edges: list[tuple[int, int]] = []
    for line, query, related in iter_json(data):
        audit.rows += 1
        place = f"{data}{numbered(line)}"
        counts = _counts(query, related)
        if isinstance(counts, BadRow):
            audit.bad(counts, place)
            continue
        assert query is not None
        audit.kept += 1
        citing = papers.key.get(query)
        if citing is not None:
            cited = (
                papers.key.get(related_paper)
                for related_paper, count in counts.items()
                if count == CITES
            )
            edges.extend(
                (citing, related_paper)
                for related_paper in cited
                if related_paper not in (None, citing)
            )
        split = waiting.pop(query, None)
        if split is None:
            audit.drop("query in none of train.txt, val.txt and test.txt", place)
            continue
        result = results[split]
        digest = hashlib.sha256(query.encode()).digest()
        rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])
        if query in excluded:
            result.empty.add(EXCLUDED, place)
            continue
        related = _related_papers(query, counts, papers)
        related = {
            related_paper: count
            for related_paper, count in related.items()
            if related_paper not in excluded
        }
        chosen = margin_triplets(_named(query, papers), related, universe, settings, rng)
        if isinstance(chosen, str):
            result.empty.add(chosen, place)
            continue
        for positive, negative, hard in chosen:
            result.by_rule["hard" if hard else "easy"] += 1
            _keep(result, (query, positive, negative), hard, papers)
    audit.check()
    for query, split in sorted(waiting.items()):
        results[split].empty.add("not a query of data.json", query)
    citations = np.unique(np.array(edges, np.int32).reshape(-1, 2), axis=0)
    citations = citations[~papers.excluded[citations].any(1)]
    for result in results.values():
        _drop_cited(result, citations, papers)
    return results, citations


def _named(paper_id: str, papers: Papers) -> str:
    """The id that stands for all ids of the same text; an unknown id unchanged."""
    paper = papers.key.get(paper_id)
    return paper_id if paper is None else papers.ids[paper]


def _splits_by_query(lists: Mapping[Split, set[str]], papers: Papers) -> dict[str, Split]:
    """The split of every listed query: the latest that names it or another id of its paper."""
    of_paper: dict[str, Split] = {
        _named(query, papers): s for s in SPLITS for query in lists.get(s, ())
    }
    return {query: of_paper[_named(query, papers)] for ids in lists.values() for query in ids}


def _related_papers(query: str, counts: Mapping[str, float], papers: Papers) -> dict[str, float]:
    """The counts of a query's related papers; of several ids of one text the highest.

    The query's own paper under another id is left out; a relation to its own id stays.
    """
    query_id = _named(query, papers)
    related: dict[str, float] = {}
    for paper_id, count in counts.items():
        name = _named(paper_id, papers)
        if name != query_id or paper_id == query:
            related[name] = max(count, related.get(name, count))
    return related


def _drop_cited(result: MarginResult, citations: NDArray[np.int32], papers: Papers) -> None:
    """Drop triplets whose negative the query cites under another id."""
    n = len(papers.ids)
    rows = np.array(result.rows, np.int64).reshape(-1, 3)
    several = np.isin(rows[:, 0], papers.first[papers.first != np.arange(n)])
    cited = np.isin(rows[:, 0] * n + rows[:, 2], citations[:, 0] * np.int64(n) + citations[:, 1])
    left_out = several & cited
    for row in rows[left_out].tolist():
        ids = " ".join(papers.ids[int(paper)] for paper in row)
        result.dropped.add("the query cites the negative under another id", ids)
    result.rows = [row for row, out in zip(result.rows, left_out, strict=True) if not out]
    result.hard = [hard for hard, out in zip(result.hard, left_out, strict=True) if not out]


def _keep(
    result: MarginResult,
    triplet: tuple[str, str, str],
    hard: bool,
    papers: Papers,
) -> None:
    for name, paper_id in zip(("query", "positive", "negative"), triplet, strict=True):
        number = papers.key.get(paper_id)
        reason = None
        if number is None:
            reason = f"the {name} is not in metadata.json"
        elif not papers.usable[number]:
            reason = f"the {name} has no title and no abstract"
        if reason:
            result.dropped.add(reason, " ".join(triplet))
            return
    a, b, c = (papers.key[paper_id] for paper_id in triplet)
    result.rows.append((a, b, c))
    result.hard.append(hard)


def _counts(query: str | None, related: Any) -> dict[str, float] | BadRow:
    if query is None or not isinstance(related, Mapping):
        raise UserError(
            'data.json must be an object {query id: {related id: {"count": number}}}; '
            f"found {spell(related)}."
        )
    counts: dict[str, float] = {}
    for paper_id, value in related.items():
        count = value.get("count") if isinstance(value, Mapping) else value
        if isinstance(count, bool) or not isinstance(count, int | float) or math.isnan(count):
            return BadRow(
                "no count",
                f"the relation of {query!r} to {paper_id!r} is {spell(value)}; "
                'expected {"count": number}.',
            )
        counts[paper_id] = count
    return counts
