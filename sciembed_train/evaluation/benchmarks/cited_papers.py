"""Whom does a paper cite, of papers and citations that no corpus was made of?

A folder holds ``papers`` and ``citations`` with columns that say which paper cites, such as
``citing`` and ``cited``. Every citing paper may ask and ranks all others. Nothing is held out: for
a model that was trained on these citations use its corpus folder, whose held-out papers ask.
"""

from __future__ import annotations

from pathlib import Path

from sciembed_train.corpus.citations.citation_columns import columns_of, unclear
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.by_example import ALL, Asking, Draw, cell_id, read_rows
from sciembed_train.evaluation.benchmarks.result import (
    TIED,
    NoQueriesError,
    Result,
    counted,
    mean,
)
from sciembed_train.evaluation.benchmarks.retrieval import find
from sciembed_train.evaluation.ranking import TIE_RULES, TieRule, judged
from sciembed_train.evaluation.systems import System
from sciembed_train.inference.paper_file import PaperFile


def is_folder_of_citations(folder: Path) -> bool:
    """Whether a folder has papers and citations."""
    try:
        find(folder, "citations")
        find(folder, "papers")
    except UserError:
        return False
    return True


def read_cited(folder: Path, papers: str | Path | None = None, draw: Draw = ALL) -> Asking:
    """The citing papers of a folder.

    Raises:
        UserError: a file is missing or malformed, or no columns say which paper cites.
        NoQueriesError: no paper of the collection cites another one.
    """
    path = find(folder, "citations")
    grades: dict[str, dict[str, int]] = {}
    for place, row in read_rows(path, "citations"):
        columns = columns_of(list(row))
        if columns is None:
            raise UserError(f"{unclear(str(path), list(row))} Or `prepare` a corpus of it.")
        citing, cited = (cell_id(place, row, column) for column in columns)
        grades.setdefault(citing, {})[cited] = 1
    collection = PaperFile(find(folder, "papers") if papers is None else papers)
    asking = Asking.of(collection, grades, 1, draw)
    if not asking.grades:
        raise NoQueriesError(f"{path}: no paper of the collection cites another one of it.")
    return asking


def evaluate(asking: Asking, system: System, ties: TieRule = "expected") -> Result:
    """Scores of a system, as `citations.evaluate` gives them for a corpus.

    ``ties`` says how papers at equal distances are ordered.
    """
    per_query, tied = {}, 0
    for query, ranked in asking.rank(system, ties):
        per_query[query] = judged(ranked)
        tied += ranked.tied
    note = "{} papers have no text; they are ranked all the same."
    return Result(
        {f"citations/{name}": value for name, value in mean(per_query.values()).items()},
        per_query,
        {
            "queries": len(per_query),
            "papers": len(asking.candidates),
            **asking.left_out,
            "protocol": "citing papers rank all others; none is held out",
            "ties": TIE_RULES[ties],
            "queries_tied": tied,
        },
        counted({note: asking.papers.without_text, TIED: tied}),
        query_texts=asking.titles(),
    )
