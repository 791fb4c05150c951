"""An evaluation folder as a guard: which benchmark it holds, and each query's score there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sciembed_train.corpus.store.corpus_files import Split
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError, why_no_file
from sciembed_train.evaluation.benchmarks import (
    citations,
    cited_papers,
    cocitations,
    csfcube,
    judged,
    retrieval,
    review,
    same_paper,
)
from sciembed_train.evaluation.benchmarks.by_example import Asking, Draw
from sciembed_train.evaluation.benchmarks.pools import pool_distances
from sciembed_train.evaluation.benchmarks.result import NoQueriesError, Result
from sciembed_train.evaluation.candidates import dev_and_test, hash_order
from sciembed_train.evaluation.metrics import graded
from sciembed_train.evaluation.ranking import rank_pool
from sciembed_train.evaluation.suite.entries import recognised
from sciembed_train.evaluation.systems import System
from sciembed_train.inference.paper_file import PaperFile

# Most papers of a file of papers, which may have millions.
MOST_PAPERS = 2000
KINDS = (
    "searches (papers, queries and qrels), CSFCube, RELISH and the other judged pools as Aspire "
    "released them, a review (papers and labels), citations or co-citations with their papers, a "
    "corpus with citations, or a file of papers with abstracts"
)


@dataclass(frozen=True)
class GuardFolder:
    """What a folder, or a file of papers, asks.

    Args:
        place: the folder or file.
        metric: what its queries are scored by.
        score: the score of each query of a split by ``(system, split, sample, seed)``: ``dev`` has
            one half of the queries, by their ids, and ``test`` the other, but where the data say
            themselves which they are; ``sample`` is the most candidates, 0 for all.
    """

    place: Path
    metric: str
    score: Callable[[System, Split, int, int], dict[str, float]]


def open_guard(place: str | Path) -> GuardFolder:
    """The benchmark of a folder, recognised by its files, or of a file of papers.

    Raises:
        UserError: there is none, or it holds nothing whose queries are scored one by one.
    """
    place = Path(place).expanduser()
    if place.is_file():
        return _of_papers(place, place)
    if not place.is_dir():
        raise UserError(f"{place}: {why_no_file(place, 'folder or file')}; expected {KINDS}.")
    if (place / "corpus.json").is_file():
        return _of_corpus(place)
    names = recognised(place)
    if "scirepeval" in names:
        raise UserError(
            f"{place}: SciRepEval is scored by tasks and not by queries, so that it is no guard; "
            "use `evaluate --benchmark scirepeval`."
        )
    for name, opener in _OPENERS.items():
        if name in names:
            return opener(place)
    if any(place.glob("queries.*")) or any(place.glob("qrels*")):
        retrieval.check_folder(place)  # says what is missing
    try:
        return _of_papers(place, retrieval.find(place, "papers"))
    except UserError as error:
        raise UserError(f"{place}: holds no known benchmark; expected {KINDS}.") from error


def _asked(split: Split, seed: int) -> Callable[[str], bool]:
    return lambda query: bool(dev_and_test([query], seed)[split == "test"])


def _of_searches(place: Path) -> GuardFolder:
    metric = f"map_grade{retrieval.THRESHOLD}"

    def score(system: System, split: Split, sample: int, seed: int) -> dict[str, float]:
        asked = _asked(split, seed)
        return retrieval.evaluate(place, system, None, asked, sample, seed).by_query(metric)

    return GuardFolder(place, metric, score)


def _of_examples(
    read: Callable[[Path, None, Draw], Asking],
    evaluate: Callable[[Asking, System], Result],
    metric: str,
    place: Path,
) -> GuardFolder:
    """Papers of a collection that ask for others of it."""
    read(place, None, Draw())  # what is wrong with the files is told now

    def score(system: System, split: Split, sample: int, seed: int) -> dict[str, float]:
        asking = read(place, None, Draw(0, sample, seed, _asked(split, seed)))
        return evaluate(asking, system).by_query(metric)

    return GuardFolder(place, metric, score)


def _of_corpus(place: Path) -> GuardFolder:
    corpus = Corpus.open(place)
    corpus.queries("test")  # a corpus without citations has none

    def score(system: System, split: Split, sample: int, seed: int) -> dict[str, float]:
        return citations.evaluate(corpus, system, split, sample, seed).by_query("map")

    return GuardFolder(place, "map", score)


def _of_papers(place: Path, file: Path) -> GuardFolder:
    def score(system: System, split: Split, sample: int, seed: int) -> dict[str, float]:
        papers = [(p.paper_id, p.title, p.abstract) for p in PaperFile(file)]
        asking = set(dev_and_test((paper for paper, _, _ in papers), seed)[split == "test"])
        most = sample or MOST_PAPERS
        result = same_paper.evaluate(papers, system, "title_abstract", asking, most, seed)
        return result.by_query("mrr")

    return GuardFolder(place, "mrr", score)


def _of_csfcube(place: Path) -> GuardFolder:
    facets = csfcube.CsfCube.open(place).facets
    queries = {f"{facet}/{query}": query for facet, one in facets.items() for query in one.pools}

    def grades_of(name: str) -> dict[str, int]:
        return facets[name.partition("/")[0]].pools[queries[name]]

    return _of_pools(place, queries, grades_of, csfcube.THRESHOLD, csfcube.paper_file(place))


def _of_judged(name: str, place: Path) -> GuardFolder:
    data = judged.Judged.open(name, place)

    def grades_of(query: str) -> dict[str, int]:
        candidates, grades = data.candidates[query], data.grades[query].tolist()
        return {data.ids[at]: grade for at, grade in zip(candidates, grades, strict=True)}

    queries, file = {query: query for query in data.candidates}, judged.paper_file(name, place)
    return _of_pools(place, queries, grades_of, judged.THRESHOLDS[name], file, data.splits)


def _of_pools(
    place: Path,
    queries: Mapping[str, str],
    grades_of: Callable[[str], dict[str, int]],
    threshold: int,
    file: Path,
    splits: Mapping[str, Sequence[str]] | None = None,
) -> GuardFolder:
    """Judged pools: of each name the query paper, and the grades of its candidates.

    A paper that asks twice, for two facets, is in one half with both. ``splits`` are the queries of
    ``dev`` and ``test``, if both are known. Papers that are not in ``file`` are left out.
    """
    metric = f"map_grade{threshold}"

    def score(system: System, split: Split, sample: int, seed: int) -> dict[str, float]:
        asked = _asked(split, seed)
        if splits is not None and splits.get("dev"):
            asked = set(splits[split]).__contains__
        names = [name for name, query in queries.items() if asked(query)]
        pools: dict[str, dict[str, int]] = {}
        needed: set[str] = set()
        for at in hash_order(names, seed):
            grades = grades_of(names[at])
            larger = needed | {queries[names[at]]} | grades.keys()
            if not sample or not pools or len(larger) <= sample:
                pools[names[at]], needed = grades, larger
        papers = {p.paper_id: p for p in PaperFile(file) if p.paper_id in needed}
        pools = {
            name: {paper: grade for paper, grade in grades.items() if paper in papers}
            for name, grades in pools.items()
            if queries[name] in papers
        }
        pools = {n: pool for n, pool in pools.items() if max(pool.values(), default=0) >= threshold}
        if not pools:
            raise NoQueriesError(f"{place}: no query of the {split} half has a relevant candidate.")
        used = {paper for name, pool in pools.items() for paper in (queries[name], *pool)}
        texts = {paper: papers[paper] for paper in used}
        asking = [(queries[name], list(pool)) for name, pool in pools.items()]
        scores = {}
        for (name, pool), distances in zip(
            pools.items(), pool_distances(system, texts, asking), strict=True
        ):
            ranked = rank_pool(distances, list(pool.values()), list(pool), "expected")
            scores[name] = graded(ranked.grades, threshold, ranked.places)[metric]
        return scores

    return GuardFolder(place, metric, score)


# By the names of benchmarks, of which a folder may have several: the first one is the guard.
_OPENERS: dict[str, Callable[[Path], GuardFolder]] = {
    "csfcube": _of_csfcube,
    **{name: partial(_of_judged, name) for name in judged.THRESHOLDS},
    "retrieval": _of_searches,
    "review": partial(_of_examples, review.read_review, review.evaluate, "map"),
    "citations": partial(_of_examples, cited_papers.read_cited, cited_papers.evaluate, "map"),
    "cocitations": partial(
        _of_examples,
        cocitations.read_cocited,
        cocitations.evaluate,
        f"map_grade{cocitations.THRESHOLD}",
    ),
}
