"""The settings of `index` and `search`. Importing this module imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sciembed_train.errors import UserError
from sciembed_train.inference.options import Similarity, check_bad_rows, check_device

Kind = Literal["flat", "ivf", "hnsw"]
MOST = 1000  # nearest papers of one query


@dataclass(frozen=True)
class IndexSettings:
    """What is indexed.

    Args:
        vectors: a folder of shards, as embed writes it, or an .npy file with the ids in .ids.txt.
        to: the folder to write.
        kind: flat compares with every vector; ivf with those of the nearest clusters; hnsw follows
            a graph of neighbours. The last two look less and may miss a paper; how often is
            measured and said.
        papers: the papers with their titles, which search shows.
        model: the model of vectors whose files do not name it; without, they can be searched by
            paper, and not by text.
        similarity: what vectors are compared by; by default what the model records, or else
            euclidean.
        max_bad_rows: malformed rows of the papers that are left out; more of them end the command.
        overwrite: replace an earlier index.

    Raises:
        UserError: a value is out of its range.
    """

    vectors: str | Path
    to: str | Path
    kind: Kind = "flat"
    papers: str | Path | None = None
    model: str | Path | None = None
    similarity: Similarity | None = None
    max_bad_rows: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        check_bad_rows(self.max_bad_rows)
        if self.kind not in ("flat", "ivf", "hnsw"):
            raise UserError(f"--kind is {self.kind!r}; expected flat, ivf or hnsw.")


@dataclass(frozen=True)
class SearchSettings:
    """What is searched in, and for what.

    Args:
        query: a text; or give a paper, a file of papers, or the page.
        index: a folder that train index wrote.
        model: the model of the index's vectors; by default the one that the index names.
        paper: the id of a paper of the index, whose nearest others are wanted.
        papers: a file of papers, for each of which the nearest are wanted.
        top: how many of the nearest papers.
        page: serve a page to search with, on this machine alone, until it is interrupted.
        port: of the page; 0 takes a free one.
        device: cpu, cuda, cuda:1, ...; auto takes a GPU where there is one.
        format_token: the format of task that queries are embedded for, of a model with adapters or
            control codes, such as adhoc_query; by default that of the index's vectors.
        max_bad_rows: malformed rows of the papers that are left out; more of them end the command.

    Raises:
        UserError: a value is out of its range, or not one thing is searched for.
    """

    index: str | Path
    query: str | None = None
    model: str | Path | None = None
    paper: str | None = None
    papers: str | Path | None = None
    top: int = 10
    page: bool = False
    port: int = 8765
    device: str = "auto"
    format_token: str | None = None
    max_bad_rows: int = 0

    def __post_init__(self) -> None:
        check_bad_rows(self.max_bad_rows)
        check_device(self.device)
        if not 1 <= self.top <= MOST:
            raise UserError(f"--top is {self.top}; expected a number from 1 to {MOST}.")
        if not 0 <= self.port < 2**16:
            raise UserError(f"--port is {self.port}; expected a number from 0 to 65535.")
        if self.query is not None and not self.query.strip():
            raise UserError("The query is blank; give a text.")
        wanted = (self.query, self.paper, self.papers)
        if sum(each is not None for each in wanted) + self.page != 1:
            raise UserError(
                "Give one of these: a text in quotes, --paper ID, --papers FILE, or --page."
            )
