"""The files of SciRepEval's evaluation: texts, judgements, reviewers.

Texts are records with a ``doc_id`` and fields, or searches ``{query, candidates}`` whose query is
such a record, or a string that has the search's own ``doc_id``. A dataset of the hub has the same
rows under the splits that SciRepEval gave them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.tasks.task_records import read_text
from sciembed_train.corpus.validation import read_id, spell
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.retrieval import find
from sciembed_train.evaluation.by_format import Record

Pools = dict[str, dict[str, int]]  # query to candidate to grade


class Rows:
    """The rows of a table, the first malformed one of which ends the reading."""

    def __init__(self, source: str | Path, what: str) -> None:
        self.table = Table(source, what)

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        for at, row in self.table.rows():
            if isinstance(row, BadRow):
                self.refuse(at, row)
            yield at, row

    def refuse(self, at: int, row: BadRow | str) -> NoReturn:
        """Raise what is wrong with a row."""
        message = row.message if isinstance(row, BadRow) else row
        raise UserError(f"{self.table.where(at)}: {message}")

    def name(self, at: int, row: Mapping[str, Any], *keys: str) -> str:
        """The id under the first of the keys that the row has."""
        key = next((key for key in keys if key in row), keys[0])
        try:
            return read_id(row.get(key), key)
        except BadRow as bad:
            self.refuse(at, bad)


@dataclass
class Texts:
    """The records of texts that tasks ask for, by id.

    ``queries`` are those of searches whose queries are read in another way; ``empty`` counts the
    texts of which every field is empty.
    """

    queries: dict[str, Record] = field(default_factory=dict)
    others: dict[str, Record] = field(default_factory=dict)
    empty: int = 0


def read_texts(
    source: str,
    fields: tuple[str, ...],
    queries: Collection[str] | None,
    others: Collection[str],
) -> Texts:
    """The texts of a file that are asked for; of several with one id the first.

    ``queries`` are the ids of queries that are read in another way than ``others``; None where
    queries are texts like the others.

    Raises:
        UserError: a row is malformed.
    """
    rows, texts = Rows(source, "texts"), Texts()

    def keep(at: int, row: Any, where: str, query: bool = False) -> None:
        if not isinstance(row, Mapping):
            rows.refuse(at, f"the text{where} is {spell(row)}; expected an object with fields.")
        name = rows.name(at, row, "doc_id", "paper_id")
        apart = query and queries is not None
        wanted, to = (queries or (), texts.queries) if apart else (others, texts.others)
        if name not in wanted or name in to:
            return
        # A query has the fields that somebody who asks has: words, and no year.
        present = tuple(f for f in fields if f in row) if query else fields
        try:
            text = read_text(row, present or fields, where)
        except BadRow as bad:
            rows.refuse(at, bad)
        texts.empty += not text
        to[name] = text

    for at, row in rows:
        if "query" not in row or "candidates" not in row:
            keep(at, row, "")
            continue
        query, candidates = row["query"], row["candidates"]
        if isinstance(query, str):
            query = {"doc_id": row.get("doc_id"), fields[0]: query}
        keep(at, query, " of the query", query=True)
        if not isinstance(candidates, list | tuple):
            rows.refuse(at, f"`candidates` is {spell(candidates)}; expected a list of texts.")
        for number, one in enumerate(candidates, 1):
            keep(at, one, f" of candidate {number}")
    return texts


def read_judgements(source: str, name: str = "test_qrel") -> tuple[Pools, int]:
    """Grades of candidates by query, and how many pairs are judged again with another grade.

    Of those the last grade stands, as in SciRepEval's code. The file ``name`` of a folder, or a
    dataset, has ``query_id``, ``cand_id`` and ``score``.

    Raises:
        UserError: there is no such file, a row is malformed, or none is there.
    """
    rows = Rows(part(source, name), "judgements")
    pools: Pools = {}
    again = 0
    for at, row in rows:
        query, candidate = rows.name(at, row, "query_id"), rows.name(at, row, "cand_id")
        score = row.get("score")
        if isinstance(score, str) and score.strip().isdecimal():  # as in CSV
            score = int(score)
        if not isinstance(score, int) and not (isinstance(score, float) and score.is_integer()):
            rows.refuse(at, f"`score` is {spell(score)}; expected a whole number.")
        pool, grade = pools.setdefault(query, {}), max(0, int(score))
        again += pool.get(candidate, grade) != grade
        pool[candidate] = grade
    if not pools:
        raise UserError(f"{rows.table.source} holds no judgement.")
    return pools, again


def read_reviewers(source: str) -> dict[str, list[str]]:
    """The papers of each reviewer: ``r_id`` and ``papers``, ids, in ``reviewer_metadata``.

    Raises:
        UserError: there is no such file, or a row is malformed.
    """
    rows = Rows(part(source, "reviewer_metadata"), "reviewers")
    papers_of = {}
    for at, row in rows:
        papers = row.get("papers")
        if not isinstance(papers, list | tuple):
            rows.refuse(at, f"`papers` is {spell(papers)}; expected a list of paper ids.")
        papers_of[rows.name(at, row, "r_id")] = [
            rows.name(at, {"papers": paper}, "papers") for paper in papers
        ]
    return papers_of


def part(source: str, name: str) -> str | Path:
    """A file of a folder, or the split of a dataset that holds the same.

    Raises:
        UserError: there is neither.
    """
    if Path(source).is_dir():
        return find(Path(source), name)
    if re.fullmatch(r"[\w.-]+/[\w.-]+(:[\w.-]+)?", source):
        splits = {"test_qrel": "test", "reviewer_metadata": "metadata"}
        return f"{source}@{splits.get(name, name.removesuffix('_qrel'))}"
    raise UserError(f"{source}: there is no such folder; it should hold {name}.")
