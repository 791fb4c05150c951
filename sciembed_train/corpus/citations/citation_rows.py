"""Citations from a user's files, and from the rows of papers, to pairs of integer keys.

Rows are read in blocks, whose ids are looked up together. What is kept of a citation
is one integer, ``citing * P + cited``; the places of the rows stay in a file, for the few that a
message shows.

Shapes: ``E`` citations, ``N`` rows of a block.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import EXAMPLES, Audit, BadRow
from sciembed_train.corpus.citations.citation_files import Blocks, CitationBlock
from sciembed_train.corpus.id_table import UNKNOWN
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.row_blocks import BLOCK, blocks, unpacked
from sciembed_train.corpus.store.corpus_files import ParquetRows
from sciembed_train.corpus.unmatched_ids import UnmatchedIds
from sciembed_train.progress import Stage

_EMPTY = -2  # in the place of a paper's number: the cell holds no id
SELF = "a paper citing itself"
REPEATED = "given before"
BACKWARDS, ENOUGH = 0.75, 20  # share of backward citations that is reported, of at least so many
SAMPLE = 1 << 20  # citations of which the years are compared


def read_citations(
    blocks: Blocks, table: Table, papers: Papers, audit: Audit, stage: Stage, work: Path
) -> NDArray[np.int32]:
    """The distinct citations between known papers, ``[E, 2]``: citing, cited; ascending.

    Self-citations, repetitions and citations of or by unknown papers are counted and left out.

    Args:
        blocks: of `CitationFiles`, or of `reference_blocks`.
        table: what they were read from.
        papers: the known ones.
        audit: of the rows.
        stage: gets the number of rows read.
        work: a folder for intermediate files.

    Raises:
        UserError: more rows are malformed than allowed, or it is not clear which column cites.
    """
    reading = _Reading(papers, table, audit)
    before = papers.finder.spelled_otherwise
    with _Pairs(work) as pairs:
        for block in blocks:
            if isinstance(block, CitationBlock):
                pairs.add(*reading.known(block))
            else:
                audit.bad(block[1], table.where(block[0]))
                audit.rows += 1
            stage.reach(audit.rows)
        audit.check()
        audit.notes += reading.notes(before)
        keys, repeated = pairs.distinct()
        again = map(table.where, pairs.again(repeated))
        audit.drop_many(REPEATED, len(pairs.keys) - len(keys), again)
    audit.kept = len(keys)
    rows = unpacked(keys, len(papers.ids))
    audit.notes += _direction(rows, papers)
    return rows


class _Reading:
    """Looks up the ids of blocks, and counts the rows that are left out."""

    def __init__(self, papers: Papers, table: Table, audit: Audit) -> None:
        self.papers, self.table, self.audit = papers, table, audit
        self.unmatched = UnmatchedIds()

    def known(self, block: CitationBlock) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Keys and places of the citations between two known papers."""
        self.audit.rows += len(block.places)
        citing, cited = self._numbers(block.citing), self._numbers(block.cited)
        # Columns without a fault are the rule.
        if citing.min(initial=0) >= 0 and cited.min(initial=0) >= 0:
            use = citing != cited
        else:
            use = self._count_unknown(block, citing, cited)
        self._drop(SELF, block.places[(citing == cited) & (citing >= 0)])
        keys = citing[use].astype(np.int64) * len(self.papers.ids) + cited[use]
        return keys, block.places[use]

    def _numbers(self, column: Any) -> NDArray[np.int32]:
        """The paper of each id ``[N]``, `UNKNOWN` or `_EMPTY`."""
        import pyarrow as pa
        import pyarrow.compute

        if isinstance(column, np.ndarray):
            return column
        compute: Any = pyarrow.compute  # its functions are made when it is imported
        if isinstance(column, list):
            column = pa.array(column, pa.string())
        numbers = self.papers.finder.exact.find_arrow(column)
        others = np.flatnonzero(numbers == UNKNOWN)
        if len(others):
            rest = column.take(pa.array(others))
            rest = rest.combine_chunks() if isinstance(rest, pa.ChunkedArray) else rest
            coded = compute.dictionary_encode(rest)
            texts = [text.strip() for text in coded.dictionary.to_pylist()]
            papers = self.papers.finder.find_all(texts)
            papers[[i for i, text in enumerate(texts) if not text]] = _EMPTY
            numbers[others] = papers[coded.indices.to_numpy(zero_copy_only=False)]
        return numbers

    def _count_unknown(
        self, block: CitationBlock, citing: NDArray[np.int32], cited: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        """Count the rows with an unknown or empty id; whether each of the others is used."""
        empty = (citing == _EMPTY) | (cited == _EMPTY)
        for row in np.flatnonzero(empty).tolist():
            name = "citing" if citing[row] == _EMPTY else "cited"
            bad = BadRow(f"{name} is empty", f"`{name}` is empty; expected a paper id.")
            self.audit.bad(bad, self.table.where(int(block.places[row])))
        no_citing, no_cited = (citing == UNKNOWN) & ~empty, (cited == UNKNOWN) & ~empty
        self._drop("unknown citing paper", block.places[no_citing & ~no_cited])
        self._drop("unknown cited paper", block.places[no_cited & ~no_citing])
        self._drop("unknown citing and cited paper", block.places[no_citing & no_cited])
        unknown = np.flatnonzero(no_citing | no_cited)
        for row in islice(unknown.tolist(), 3):
            ends = ((block.citing, no_citing), (block.cited, no_cited))
            self.unmatched.first += [str(ids[row]) for ids, missing in ends if missing[row]]
        self.unmatched.rows += len(unknown)
        return (citing >= 0) & (cited >= 0) & (citing != cited)

    def _drop(self, reason: str, places: NDArray[np.int64]) -> None:
        where = self.table.where
        self.audit.drop_many(reason, len(places), (where(place) for place in places.tolist()))

    def notes(self, spelled_before: int) -> list[str]:
        """Notes on the ids."""
        finder, ids = self.papers.finder, self.papers.ids
        lines = []
        if finder.spelled_otherwise > spelled_before and finder.example is not None:
            text, paper = finder.example
            lines.append(
                f"Some ids are spelled otherwise than the papers' (the first: {text} is "
                f"{ids[paper]}); they were brought together."
            )
        source = self.table.source
        note = self.unmatched.note(source, self.audit.rows, "citations", ids)
        return [*lines, note] if note else lines


class _Pairs:
    """Citations as integers in memory, and the places of their rows in a file."""

    def __init__(self, work: Path) -> None:
        self.file = work / "citation_places.bin"
        self.keys = array("q")

    def __enter__(self) -> _Pairs:
        self._places = self.file.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        self._places.close()
        self.file.unlink()

    def add(self, keys: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        """Keep some citations."""
        self.keys.frombytes(np.ascontiguousarray(keys).data.cast("B"))
        np.stack([keys, places], axis=1).tofile(self._places)

    def distinct(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The distinct keys, in the memory of all keys, and the repeated ones; both ascending."""
        keys = np.frombuffer(self.keys, np.int64)
        keys.sort()
        repeated, n_kept, last = [], 0, None
        for block in blocks(len(keys)):
            part = keys[block]
            new = np.diff(part, prepend=part[0] - 1) != 0
            new[0] = part[0] != last
            last = part[-1]
            repeated.append(np.unique(part[~new]))
            part = part[new]
            keys[n_kept : n_kept + len(part)] = part
            n_kept += len(part)
        return keys[:n_kept], np.unique(np.concatenate(repeated)) if repeated else keys

    def again(self, repeated: NDArray[np.int64]) -> Iterator[int]:
        """The first places where one of these keys is repeated.

        Args:
            repeated: some keys, ascending.
        """
        if not len(repeated):
            return
        self._places.flush()
        seen, n_found = np.zeros(len(repeated), np.bool_), 0
        with self.file.open("rb") as file:
            while len(part := np.fromfile(file, np.int64, 2 * BLOCK).reshape(-1, 2)):
                at = np.searchsorted(repeated, part[:, 0]).clip(max=len(repeated) - 1)
                known = repeated[at] == part[:, 0]
                at, places = at[known], part[known, 1]
                before = seen[at]
                _, first = np.unique(at, return_index=True)
                seen[at] = True
                again = np.ones(len(at), np.bool_)
                again[first] = False
                for place in places[before | again][: EXAMPLES - n_found].tolist():
                    n_found += 1
                    yield place
                if n_found == EXAMPLES:
                    return


def _direction(rows: NDArray[np.int32], papers: Papers) -> list[str]:
    """A warning where in most citations the citing paper is the older one."""
    if papers.years is None or not len(rows):
        return []
    step = max(len(rows) // SAMPLE, 1)
    citing, cited = papers.years[rows[::step]].T
    known = (citing > 0) & (cited > 0) & (citing != cited)
    if known.sum() < ENOUGH or (citing < cited)[known].mean() < BACKWARDS:
        return []
    share = (citing < cited)[known].mean()
    return [
        f"In {share:.0%} of the citations between papers of two years the citing paper is the "
        "older one: they may be read the wrong way round. If so: --map citing=COLUMN --map "
        "cited=COLUMN."
    ]


def save_citations(folder: Path, citations: NDArray[np.int32]) -> None:
    """Write ``citations.npy`` and ``citations.parquet``."""
    import pyarrow as pa

    np.save(folder / "citations.npy", citations)
    columns = {"citing": pa.int32(), "cited": pa.int32()}
    with ParquetRows(folder / "citations.parquet", columns) as table:
        for block in blocks(len(citations)) if len(citations) else (slice(0),):
            table.write(*np.ascontiguousarray(citations[block].T))
