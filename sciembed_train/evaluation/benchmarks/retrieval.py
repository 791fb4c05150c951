"""Searches over a collection: papers, queries, and TREC relevance judgements.

Every query ranks every paper. The binary metrics take grade 1 or more as relevant, and say so in
their names; nDCG has the log2 discount and linear gain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.files import read_lines
from sciembed_train.corpus.readers.paper_rows import PaperRows
from sciembed_train.corpus.readers.registry import PAPER_READERS, reader_of
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.validation import Paper, read_id, spell
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.result import (
    TIED,
    NoQueriesError,
    Result,
    counted,
    described,
    mean,
)
from sciembed_train.evaluation.candidates import draw_candidates
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.ranking import (
    TIE_RULES,
    TieRule,
    judged,
    rank_judged,
    tie_order,
)
from sciembed_train.evaluation.systems import Search, System
from sciembed_train.inference.embedding import Text
from sciembed_train.inference.paper_file import PaperFile

THRESHOLD = 1
RECALLS = (10, 100)
QRELS = (".tsv", ".txt", "")  # endings of the file of judgements


@dataclass(frozen=True)
class Query:
    """A search: words, or a paper of the collection (which is then no candidate)."""

    query_id: str
    text: str | None
    paper_id: str | None


def run(settings: EvaluateSettings, systems: Systems) -> tuple[str, Result]:
    """The name of what was scored and its scores, for `registry`."""
    system = systems.system(settings)
    result = evaluate(
        settings.data,
        system,
        settings.papers,
        sample=settings.sample or 0,
        seed=settings.seed,
        ties=settings.ties,
    )
    return described(system, result)


def is_here(folder: Path, benchmark: str) -> bool:
    """Whether a folder has papers, queries and judgements."""
    try:
        check_folder(folder)
    except UserError:
        return False
    return True


def evaluate(
    folder: str | Path,
    system: System,
    papers: str | Path | None = None,
    asked: Callable[[str], bool] = lambda query: True,
    sample: int = 0,
    seed: int = 0,
    ties: TieRule = "expected",
) -> Result:
    """Scores of a system: MAP, MRR, recall at 10 and 100, nDCG whole and at 10.

    Args:
        folder: holds ``papers`` (or these are elsewhere), ``queries`` and ``qrels``, of any known
            ending.
        system: model or baseline.
        papers: the file of papers, where it is not in the folder.
        asked: whether the query of an id is to be scored.
        sample: most candidates, with fewer queries (`draw_candidates`); 0 for all.
        seed: of the sample.
        ties: how papers at equal distances are ordered.

    Raises:
        UserError: a file is missing or malformed.
        NoQueriesError: no query that is asked is judged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; expected papers, queries and qrels.")
    all_queries = read_queries(find(folder, "queries"))
    grades = read_qrels(find(folder, "qrels", QRELS))
    collection = PaperFile(find(folder, "papers") if papers is None else papers)
    ids = [paper.paper_id for paper in collection]
    row_of = {paper: row for row, paper in enumerate(ids)}

    unknown_queries = grades.keys() - {query.query_id for query in all_queries}
    unknown_papers = {p for row in grades.values() for p in row} - row_of.keys()
    wanted: list[dict[int, int]] = []
    scored: list[Query] = []
    unjudged = 0
    for query in all_queries:
        if query.paper_id is not None and query.paper_id not in row_of:
            raise UserError(
                f"{folder}: query {query.query_id} is the paper {query.paper_id}, "
                "which is not among the papers."
            )
        row = {
            row_of[paper]: max(0, grade)
            for paper, grade in grades.get(query.query_id, {}).items()
            if paper in row_of and paper != query.paper_id
        }
        if not any(grade >= THRESHOLD for grade in row.values()):
            unjudged += 1
        elif asked(query.query_id):
            wanted.append(row)
            scored.append(query)
    if not scored:
        raise NoQueriesError(f"{folder}: no query has a relevant paper in the qrels.")
    candidates = np.arange(len(ids))
    if sample and sample < len(ids):
        relevant = [np.array([p for p, g in row.items() if g >= THRESHOLD]) for row in wanted]
        names = [query.query_id for query in scored]
        kept, candidates = draw_candidates(ids, names, relevant, sample, seed)
        among = set(candidates.tolist())
        scored = [scored[at] for at in kept]
        wanted = [{p: g for p, g in wanted[at].items() if p in among} for at in kept]
    words = [query.text for query in scored if query.paper_id is None]
    papers_asking = [row_of[q.paper_id] for q in scored if q.paper_id is not None]
    used = np.union1d(candidates, np.array(papers_asking, dtype=np.int64))
    place_of = {int(paper): place for place, paper in enumerate(used)}
    behind = count(len(used))  # a search's words are a text behind those of the papers
    query_rows = [
        next(behind) if q.paper_id is None else place_of[row_of[q.paper_id]] for q in scored
    ]

    def texts() -> Iterator[Text]:
        paper_texts = (
            (paper.title, paper.abstract) for row, paper in enumerate(collection) if row in place_of
        )
        # A query of words has no title: its sentences are compared as those of an abstract.
        yield from chain(paper_texts, ((None, text) for text in words))

    candidate_ids = [ids[paper] for paper in candidates]
    order = tie_order(candidate_ids, ties)
    candidate_of = {int(paper): at for at, paper in enumerate(candidates)}
    places = np.searchsorted(used, candidates)

    def judged_of(at: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        row = wanted[at]
        return np.array([candidate_of[paper] for paper in row]), np.array(list(row.values()))

    search = Search(
        texts(),
        len(used) + len(words),
        np.array(query_rows),
        places,
        query_ids=[query.query_id for query in scored],
        paper_ids=candidate_ids,
        query_papers=[query.paper_id for query in scored],
        in_words=range(len(used), len(used) + len(words)),
        judged=judged_of,
    )
    per_query, tied = {}, 0
    for at, (query, distances) in enumerate(zip(scored, system.distances(search), strict=True)):
        own = None if query.paper_id is None else candidate_of.get(row_of[query.paper_id])
        ranked = rank_judged(distances, *judged_of(at), order, own)
        per_query[query.query_id] = judged(ranked, THRESHOLD, RECALLS)
        tied += ranked.tied
    of_all = f"of {len(all_queries)} queries have no relevant paper: left out."
    notes = counted(
        {
            f"{{}} {of_all}": unjudged,
            "{} judged queries are not among the queries: left out.": len(unknown_queries),
            "{} judged papers are not among the papers: left out.": len(unknown_papers),
            "{} papers have no text; they are ranked all the same.": collection.without_text,
            TIED: tied,
        }
    )
    return Result(
        {f"retrieval/{name}": value for name, value in mean(per_query.values()).items()},
        per_query,
        {
            "queries": len(scored),
            "queries_without_relevant_left_out": unjudged,
            "papers": len(candidates),
            "relevant": sum(g >= THRESHOLD for row in wanted for g in row.values()),
            "threshold": THRESHOLD,
            "ties": TIE_RULES[ties],
            "queries_tied": tied,
        },
        notes,
        query_texts={query.query_id: query.text or query.paper_id or "" for query in scored},
    )


def check_folder(folder: str | Path) -> None:
    """See that a folder has papers, queries and qrels.

    Raises:
        UserError: it has not, or is none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; expected papers, queries and qrels.")
    for name in ("papers", "queries"):
        find(folder, name)
    find(folder, "qrels", QRELS)


def find(folder: Path, name: str, plain: tuple[str, ...] = ()) -> Path:
    """The one file called ``name`` with a known ending, or of those in ``plain``.

    Raises:
        UserError: there is none, or several.
    """
    found = [
        path
        for path in sorted(folder.glob(f"{name}*"))
        if path.is_file()
        and (path.name.split(".")[0] == name)
        and (_plain(path) in plain if plain else reader_of(path))
    ]
    if len(found) != 1:
        endings = " or ".join(plain) if plain else ".jsonl, .csv, .tsv or .parquet"
        there = f"several ({', '.join(p.name for p in found)})" if found else "none"
        raise UserError(
            f"{folder}: expected one file `{name}` ending in {endings} (.gz, .zst); found {there}."
        )
    return found[0]


def papers_of(place: Path) -> Path:
    """The file ``papers`` of a folder; without one the folder, all of whose files are papers."""
    try:
        return find(place, "papers") if place.is_dir() else place
    except UserError:
        return place


def first_paper(place: Path) -> tuple[Mapping[str, Any], Paper] | None:
    """The first row of a folder of papers and what is read of it; None where it is no paper.

    The folder has a file ``papers``, or else files of one ending alone, apart from texts about it.
    """
    source = papers_of(place)
    if source.is_dir():
        files = [
            path
            for path in source.iterdir()
            if not path.name.startswith((".", "README", "LICENSE"))
        ]
        if (
            not all(path.is_file() for path in files)
            or len({"".join(p.suffixes) for p in files}) != 1
        ):
            return None
    try:
        rows = PaperRows(Table(source, "papers", readers=PAPER_READERS)).rows()
        _, row, paper = next(iter(rows), (0, {}, None))
    except UserError:
        return None
    return (row, paper) if isinstance(paper, Paper) else None


def read_queries(path: Path) -> list[Query]:
    """The queries of a file: ``query_id`` and ``text`` or ``paper_id``.

    Raises:
        UserError: a row is malformed, or an id comes twice.
    """
    table = Table(path, "queries")
    queries: dict[str, Query] = {}
    for at, row in table.rows():
        try:
            if isinstance(row, BadRow):
                raise row
            query = _query(row)
        except BadRow as bad:
            raise UserError(f"{table.where(at)}: {bad.message} Correct the row.") from bad
        if query.query_id in queries:
            raise UserError(f"{table.where(at)}: `query_id` {query.query_id!r} was given before.")
        queries[query.query_id] = query
    if not queries:
        raise UserError(f"{path}: holds no query.")
    return list(queries.values())


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """TREC judgements, ``query_id 0 paper_id grade`` a line: query to paper to grade.

    Raises:
        UserError: a line has other than four columns, or no whole number as its grade, or
            judges a paper again with another grade.
    """
    grades: dict[str, dict[str, int]] = {}
    for number, line in read_lines(path):
        columns = [] if isinstance(line, BadRow) else line.split()
        if number == 1 and columns and columns[0].lower().replace("-", "_") == "query_id":
            continue
        try:
            query, _, paper, grade = columns
            value = int(grade)
        except ValueError as error:
            raise UserError(
                f"{path}:{number}: expected `query_id 0 paper_id grade` with a whole number as "
                f"grade, found {line if isinstance(line, str) else line.message!r}."
            ) from error
        if grades.setdefault(query, {}).setdefault(paper, value) != value:
            raise UserError(
                f"{path}:{number}: query {query} judges paper {paper} again, with another grade."
            )
    return grades


def _plain(path: Path) -> str:
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    return Path(name).suffix


def _query(row) -> Query:
    query_id = read_id(row.get("query_id"), "query_id")
    text, paper = row.get("text"), row.get("paper_id")
    if isinstance(text, str) and text.strip():
        return Query(query_id, text, None)
    if text is not None and not isinstance(text, str):
        raise BadRow("text has a wrong type", f"`text` is {spell(text)}; expected text.")
    if paper is None:
        raise BadRow("there is no text", "there is neither `text` nor `paper_id`.")
    return Query(query_id, None, read_id(paper, "paper_id"))
