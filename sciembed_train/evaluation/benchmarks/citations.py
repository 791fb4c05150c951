"""Whom does a paper cite? Each held-out query paper of a corpus against all papers with a text.

Of a folder that is no corpus every citing paper may ask (`cited_papers`).

Relevant are the papers it cites; the query is no candidate of its own. The corpus kept these
citations out of the training triplets (`corpus.mining`). Of papers with the same text one is a
candidate: it stands for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.store.corpus_files import Split
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_store import has_text
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks import cited_papers
from sciembed_train.evaluation.benchmarks.by_example import Draw
from sciembed_train.evaluation.benchmarks.result import (
    TIED,
    NoQueriesError,
    Result,
    counted,
    described,
    mean,
)
from sciembed_train.evaluation.candidates import draw_candidates, hash_order
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.ranking import (
    TIE_RULES,
    TieRule,
    id_order,
    judged,
    nearest,
    rank_judged,
    tie_order,
)
from sciembed_train.evaluation.systems import Search, System
from sciembed_train.inference.embedding import Text

NEAREST = 5


def run(settings: EvaluateSettings, systems: Systems) -> tuple[str, Result]:
    """The name of what was scored and its scores, for `registry`."""
    place = Path(settings.data)
    if not (place / "corpus.json").exists() and cited_papers.is_folder_of_citations(place):
        asking = cited_papers.read_cited(place, settings.papers, Draw.of(settings))
        system = systems.system(settings)
        return described(system, cited_papers.evaluate(asking, system, settings.ties))
    corpus = Corpus.open(settings.data)
    system = systems.system(settings)
    return described(system, _of_corpus(corpus, system, settings))


def _of_corpus(corpus: Corpus, system: System, settings: EvaluateSettings) -> Result:
    sample = settings.sample or 0
    return evaluate(corpus, system, settings.split, sample, settings.seed, ties=settings.ties)


def is_here(folder: Path, benchmark: str) -> bool:
    """Whether a folder is a corpus with citations, or has papers and citations."""
    if (folder / "corpus.json").exists():
        corpus = Corpus.open(folder)
        try:
            return bool(len(corpus.queries("test")))
        except UserError:  # it has no citations, and so holds no query papers out
            return False
    return cited_papers.is_folder_of_citations(folder)


def evaluate(
    corpus: Corpus,
    system: System,
    split: Split = "test",
    sample: int = 0,
    seed: int = 0,
    shown: int = 0,
    ties: TieRule = "expected",
) -> Result:
    """Scores of a system: MAP, MRR, recall at 10, nDCG (log2, binary gain) whole and at 10.

    Args:
        corpus: with citations.
        system: model or baseline.
        split: whose query papers ask.
        sample: most candidates, with fewer queries (`draw_candidates`); 0 for all.
        seed: of the sample.
        shown: for so many queries keep the `NEAREST` papers too, those that are cited or not.
        ties: how papers at equal distances are ordered.

    Raises:
        NoQueriesError: the split has no query papers that have a text and cite one.
    """
    ids, readable, without_text, excluded = _readable(corpus)
    row_of = np.cumsum(readable) - 1  # of a paper among those with a text
    queries, cited, left = _asking(corpus, split, readable)
    queries, cited = row_of[queries], [row_of[papers] for papers in cited]
    papers = np.arange(len(ids))
    if sample and sample < len(ids):
        kept, papers = draw_candidates(ids, [ids[q] for q in queries], cited, sample, seed)
        queries, cited = queries[kept], [cited[at] for at in kept]
    used = np.union1d(papers, queries)
    candidate_of = np.full(len(ids), -1)
    candidate_of[papers] = np.arange(len(papers))

    def texts() -> Iterator[Text]:
        is_used = np.isin(np.arange(len(ids)), used)
        for row in corpus.papers():
            if readable[row["paper"]] and is_used[row_of[row["paper"]]]:
                yield row["title"], row["abstract"]

    candidate_ids = [ids[paper] for paper in papers]
    order = tie_order(candidate_ids, ties)

    def judged_of(at: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return candidate_of[cited[at]], np.ones(len(cited[at]), np.int64)

    search = Search(
        texts(),
        len(used),
        np.searchsorted(used, queries),
        np.searchsorted(used, papers),
        query_ids=[ids[query] for query in queries],
        paper_ids=candidate_ids,
        judged=None if shown else judged_of,
    )
    show = {int(queries[at]) for at in hash_order([ids[q] for q in queries], seed)[:shown]}
    per_query, nearest_ids, tied = {}, {}, 0
    for query, wanted, row in zip(queries, cited, system.distances(search), strict=True):
        own = int(candidate_of[query])
        grades = np.ones(len(wanted), dtype=np.int64)
        ranked = rank_judged(row, candidate_of[wanted], grades, order, own if own >= 0 else None)
        per_query[ids[query]] = judged(ranked)
        tied += ranked.tied
        if int(query) in show:
            near = [
                int(paper)
                for paper in nearest(row, id_order(candidate_ids))[: NEAREST + 1]
                if paper != own
            ]
            nearest_ids[ids[query]] = [candidate_ids[paper] for paper in near[:NEAREST]]
    settings = {
        "split": split,
        "queries": len(per_query),
        "queries_without_text_or_cited_text": left,
        "papers": len(papers),
        "papers_without_text_left_out": without_text,
        "papers_of_the_same_text_left_out": corpus.n_papers - len(ids) - without_text - excluded,
        "papers_excluded_from_training_left_out": excluded,
        "relevant": sum(map(len, cited)),
        "ties": TIE_RULES[ties],
        "queries_tied": tied,
    }
    without = "{} query papers have no text or cite none with a text: left out."
    notes = counted({without: left, TIED: tied})
    metrics = {f"citations/{name}": value for name, value in mean(per_query.values()).items()}
    titles = {
        row["paper_id"]: row["title"] or ""
        for row in corpus.papers()
        if row["paper_id"] in per_query
    }
    return Result(metrics, per_query, settings, notes, nearest_ids, titles)


def _readable(corpus: Corpus) -> tuple[list[str], NDArray[np.bool_], int, int]:
    """The ids of the papers that have a text of their own, and which these are.

    And how many papers have no text, and how many with one are excluded.
    """
    readable = np.zeros(corpus.n_papers, dtype=bool)
    distinct, kept_out = corpus.distinct_papers(), corpus.excluded_papers()
    ids: list[str] = []
    without = excluded = 0
    for row in corpus.papers():
        if not has_text(row["title"], row["abstract"]):
            without += 1
        elif kept_out[row["paper"]]:
            excluded += 1
        elif distinct[row["paper"]]:
            readable[row["paper"]] = True
            ids.append(row["paper_id"])
    return ids, readable, without, excluded


def _asking(
    corpus: Corpus, split: Split, readable: NDArray[np.bool_]
) -> tuple[NDArray[np.integer], list[NDArray[np.integer]], int]:
    """Query papers of a split, what each cites, and how many were left out for want of a text."""
    held_out = np.unique(corpus.first_of_text()[np.asarray(corpus.queries(split))])
    if not len(held_out):
        raise NoQueriesError(
            f"{corpus.folder} has no query papers in its {split} split; prepare it again with a "
            f"larger share for {split}."
        )
    edges = np.asarray(corpus.citations_of_texts())
    edges = edges[np.isin(edges[:, 0], held_out)]
    usable = edges[readable[edges[:, 0]] & readable[edges[:, 1]] & (edges[:, 0] != edges[:, 1])]
    queries, starts = np.unique(usable[:, 0], return_index=True)
    if not len(queries):
        raise NoQueriesError(
            f"{corpus.folder}: no query paper of the {split} split has a text and cites a paper "
            "that has one."
        )
    return queries, np.split(usable[:, 1], starts[1:]), len(held_out) - len(queries)
