"""Papers from a user's files to ``papers.parquet`` and integer keys (`papers.Papers`)."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import EXAMPLES, Audit, checked_rows
from sciembed_train.corpus.field_count import FieldCount
from sciembed_train.corpus.id_table import IdList, IdNumbers
from sciembed_train.corpus.paper_ids import same_plain_form
from sciembed_train.corpus.papers import Papers, References
from sciembed_train.corpus.readers.paper_rows import PaperRows
from sciembed_train.corpus.row_blocks import release_unused
from sciembed_train.corpus.sql_engine import Engine
from sciembed_train.corpus.store.corpus_files import ParquetRows
from sciembed_train.corpus.store.token_store import has_text
from sciembed_train.corpus.validation import Paper, repeated_id
from sciembed_train.errors import UserError
from sciembed_train.progress import Stage
from sciembed_train.text.cleaning import MarkupCount
from sciembed_train.text.normalise import normalised, paper_number, text_number
from sciembed_train.text.text_faults import TextFaults

ROWS = 16384  # of one row group
SORTED_AT_ONCE = 64 * 10**6  # bytes of papers
MOST_PARTS = 500  # files that are open at once
SAME_TEXT = "the text of another id: one paper with it"
SAME_TITLE = "the title and year of another id: one paper with it, as merge_duplicates asks"
NO_TEXT = "no title and no abstract: takes part in nothing"
NO_PAPER = "an abstract of a paper that is not given"
TITLE = 20  # letters from which on a title identifies a paper; many share a shorter one


def write_papers(
    rows: PaperRows,
    to: Path,
    work: Path,
    engine: Engine,
    audit: Audit,
    stage: Stage,
    merge_duplicates: bool = False,
) -> Papers:
    """Check every row, write ``papers.parquet`` in order of the keys, and return the papers.

    Args:
        rows: the user's.
        to: the file to write.
        work: a folder for intermediate files; the papers' references stay there.
        engine: joins abstracts that stand in rows of their own.
        audit: of the rows.
        stage: gets the number of rows read.
        merge_duplicates: papers of one title and year are one paper, as those of one text are.

    Raises:
        UserError: more rows are malformed than allowed, or there is no paper with a text.
    """
    reading = _Reading(rows, work, audit)
    with ParquetRows(reading.file, _columns(), ROWS) as writer:
        for place, paper in checked_rows(rows, rows.table.where, audit, stage):
            reading.add(place, paper, writer)
    reading.close()
    if reading.completed:
        reading.complete(engine)
    audit.kept = len(reading.first_seen)
    audit.notes += reading.notes()
    if not any(reading.usable):
        raise UserError(_nothing_to_read(rows, len(reading.first_seen)))
    ids, order = reading.sorted_ids()
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    if np.array_equal(order, np.arange(len(order))):
        reading.file.rename(to)
    else:
        _write_sorted(reading.file, to, work, number)
    release_unused()
    return reading.papers(ids, order, number, merge_duplicates)


class _Reading:
    """What is kept in memory of the papers while their rows are read, by input row."""

    def __init__(self, rows: PaperRows, work: Path, audit: Audit) -> None:
        self.table, self.audit, self.work = rows.table, audit, work
        self.file = work / "papers_as_given.parquet"
        self.first_seen: dict[str, int] = {}
        self.other_ids: dict[str, int] = {}
        self.places, self.texts, self.titles = array("q"), array("q"), array("q")
        self.long_title = bytearray()
        self.years = array("h")
        self.usable = bytearray()
        self.abstracts = self.completed = self.references = 0
        self.markup, self.faults = MarkupCount(), TextFaults()
        self.fields = FieldCount()
        self._references: ParquetRows | None = None
        self._abstracts: ParquetRows | None = None

    def add(self, place: int, paper: Paper, writer: ParquetRows) -> None:
        """Keep a paper, and write its text."""
        if paper.completes:
            self._add_abstract(place, paper)
            return
        row = len(self.places)
        before = self.first_seen.setdefault(paper.paper_id, row)
        if before != row:
            first = self.table.where(self.places[before])
            self.audit.bad(repeated_id(paper.paper_id, first, "paper"), self.table.where(place))
            return
        self.places.append(place)
        self.usable.append(False)
        self.texts.append(0)
        self.titles.append(text_number(paper.title))
        self.long_title.append(_is_long(paper.title))
        self.years.append(paper.year or 0)
        self.fields.add(paper.fields_of_study)
        self._read_text(row, paper.title, paper.abstract)
        for other_id in paper.other_ids:
            self.other_ids.setdefault(other_id, row)
        if paper.references or paper.cited_by:
            self._add_references(place, row, paper)
        writer.add(row, paper.paper_id, paper.title, *_stored(paper), paper.year)

    def _read_text(self, row: int, title: str, abstract: str | Sequence[str]) -> None:
        """Keep what mining and messages need of a text."""
        has_abstract = has_text(None, abstract)
        self.usable[row] = has_abstract or has_text(title, None)
        self.texts[row] = paper_number(title, abstract) if self.usable[row] else 0
        sentences = (abstract,) if isinstance(abstract, str) else abstract
        self.abstracts += has_abstract
        where, place = self.table.where, self.places[row]
        self.markup.add(where, place, title, *sentences)
        self.faults.add(where, place, " ".join(sentences))

    def _add_references(self, place: int, row: int, paper: Paper) -> None:
        if self._references is None:
            self._references = ParquetRows(self.work / "references.parquet", _reference_columns())
        for cites, others in ((True, paper.references), (False, paper.cited_by)):
            for other_id in others:
                self._references.add(place, row, other_id, cites)
                self.references += 1

    def _add_abstract(self, place: int, paper: Paper) -> None:
        if self._abstracts is None:
            columns = {name: _columns()[name] for name in ("paper_id", "abstract", "sentences")}
            self._abstracts = ParquetRows(self.work / "abstracts.parquet", columns | _place())
        self._abstracts.add(paper.paper_id, *_stored(paper), place)
        self.completed += 1

    def close(self) -> None:
        """Close the intermediate files."""
        for file in (self._references, self._abstracts):
            if file is not None:
                file.close()

    def complete(self, engine: Engine) -> None:
        """Add the abstracts that have rows of their own to the papers without one."""
        engine.load("abstracts", self.work / "abstracts.parquet")
        has_abstract = "(coalesce(source.abstract, '') <> '' OR source.sentences IS NOT NULL)"
        taken = f"(a.place IS NOT NULL AND NOT {has_abstract})"
        sql = (
            "SELECT source.paper, source.paper_id, source.title, "
            f"CASE WHEN {taken} THEN a.abstract ELSE source.abstract END AS abstract, "
            f"CASE WHEN {taken} THEN a.sentences ELSE source.sentences END AS sentences, "
            f"source.year, {taken} AS completed FROM source LEFT JOIN "
            "(SELECT paper_id, arg_min(abstract, place) AS abstract, arg_min(sentences, place) AS "
            "sentences, min(place) AS place FROM abstracts GROUP BY paper_id) a USING (paper_id) "
            "ORDER BY source.paper"
        )
        whole = self.work / "papers_with_abstracts.parquet"
        n_completed, columns = 0, _columns()
        with ParquetRows(whole, columns) as writer:
            for batch in engine.batches(sql, self.file, ROWS):
                writer.write(*(batch.column(name).cast(kind) for name, kind in columns.items()))
                for row in batch.to_pylist():
                    if row["completed"]:
                        n_completed += 1
                        text = row["abstract"] if row["sentences"] is None else row["sentences"]
                        self._read_text(row["paper"], row["title"], text or "")
        whole.replace(self.file)
        self.audit.notes.append(f"{n_completed:,} abstracts stand in rows of their own.")
        unknown = engine.columns(
            "SELECT place FROM abstracts WHERE paper_id NOT IN (SELECT paper_id FROM source) "
            "ORDER BY place"
        )["place"]
        self.audit.drop_many(NO_PAPER, len(unknown), map(self.table.where, unknown.tolist()))
        engine.drop("abstracts")

    def sorted_ids(self) -> tuple[IdList, NDArray[np.int64]]:
        """The sorted ids, and the row of each; their copy here is freed."""
        names = sorted(self.first_seen)
        rows = np.fromiter(map(self.first_seen.__getitem__, names), np.int64, len(names))
        ids = IdList.of(names)
        self.first_seen = {}  # a gigabyte for ten million papers
        return ids, rows

    def notes(self) -> list[str]:
        """Notes on the texts; papers without one are counted in the audit."""
        without = np.flatnonzero(~np.frombuffer(bytes(self.usable), np.bool_))
        places = (self.table.where(self.places[row]) for row in without.tolist())
        self.audit.drop_many(NO_TEXT, len(without), places)
        lines = self.markup.notes() + self.faults.notes()
        if self.first_seen and not self.abstracts:
            lines.append(
                f"{self.table.source}: not one paper has an abstract, so titles alone are read. If "
                "the abstracts stand in a column of another name, say which: --map "
                "abstract=COLUMN."
            )
        return lines

    def papers(
        self,
        ids: IdList,
        order: NDArray[np.int64],
        number: NDArray[np.int32],
        merge_duplicates: bool,
    ) -> Papers:
        """The papers by their ids: ``order`` is the row of each, ``number`` the paper of a row."""
        first = first_of_text(np.frombuffer(self.texts, np.int64)[order])
        _note_same_texts(self.audit, ids, first)
        years = np.frombuffer(self.years, np.int16)[order]
        first = self._duplicates(ids, order, first, years, merge_duplicates)
        by_id = IdNumbers(ids)
        if pairs := same_plain_form(by_id):
            self.audit.notes.append(
                f"{len(pairs):,} ids differ from another one only in how they are spelled (the "
                f"first: {pairs[0][0]} and {pairs[0][1]}). A citation of that id is one of the "
                "paper that it names letter by letter, else of the first."
            )
        file = self.work / "references.parquet"
        return Papers(
            ids=ids,
            number=by_id,
            usable=np.frombuffer(bytes(self.usable), np.bool_)[order],
            first_of_text=first,
            other_ids=self._other_ids(number),
            years=years if years.any() else None,
            references=References(file, number) if self.references else None,
            titles=np.frombuffer(self.titles, np.int64)[order],
            fields_of_study=self.fields.as_dict(),
        )

    def _other_ids(self, number: NDArray[np.int32]) -> Mapping[str, int]:
        """The papers by other ids that they have."""
        rows = np.fromiter(self.other_ids.values(), np.int64, len(self.other_ids))
        other_ids = IdList.of(self.other_ids)
        self.other_ids = {}
        return IdNumbers(other_ids, number[rows])

    def _duplicates(
        self,
        ids: Sequence[str],
        order: NDArray[np.int64],
        first: NDArray[np.int32],
        years: NDArray[np.int16],
        merge: bool,
    ) -> NDArray[np.int32]:
        """Count the papers that share title and year, and merge them where asked."""
        keys = np.frombuffer(self.titles, np.int64)[order]
        long = np.frombuffer(bytes(self.long_title), np.bool_)[order]
        unclear = (keys == 0) | (years == 0) | ~long
        keys *= 4096
        keys += years
        keys[unclear] = 0
        same = first_of_text(keys)
        more = np.flatnonzero((same != np.arange(len(same))) & (first[same] != first))
        if not len(more):
            return first
        pairs = [f"{ids[paper]} is {ids[int(same[paper])]}" for paper in more[:EXAMPLES]]
        if not merge:
            self.audit.notes.append(
                f"{len(more):,} papers have the title and the year of another id and another "
                f"abstract (the first: {pairs[0]}). With --merge-duplicates they are one paper."
            )
            return first
        self.audit.drop_many(SAME_TITLE, len(more), pairs)
        merged = _joined(first, first[more], first[same[more]])
        self.audit.notes.append(
            f"{len(more):,} papers have the title and the year of another id (the first: "
            f"{pairs[0]}). They are one paper with it."
        )
        return merged


def _joined(
    first: NDArray[np.int32], ones: NDArray[np.int32], others: NDArray[np.int32]
) -> NDArray[np.int32]:
    """``first`` with the groups of each pair of papers merged, named by the lowest paper."""
    root: dict[int, int] = {}

    def top(paper: int) -> int:
        while paper in root:
            paper = root[paper]
        return paper

    for pair in zip(ones.tolist(), others.tolist(), strict=True):
        low, high = sorted(map(top, pair))
        if low != high:
            root[high] = low
    of_group = np.arange(len(first), dtype=np.int32)
    for paper in root:
        of_group[paper] = top(paper)
    return of_group[first]


def _stored(paper: Paper) -> tuple[str | None, tuple[str, ...] | None]:
    """The columns ``abstract`` and ``sentences``: a text is in one of them."""
    return (paper.abstract, None) if isinstance(paper.abstract, str) else (None, paper.abstract)


def _nothing_to_read(rows: PaperRows, papers: int) -> str:
    """The message where no paper has a text: empty files are named."""
    problem = f"none of its {papers:,} papers has a title or an abstract" if papers else "empty"
    return f"{rows.table.source}: {problem}. There is nothing to read."


def _is_long(title: str) -> bool:
    """Whether a title says which paper it is: many papers have a shorter one."""
    return len(title) >= TITLE and len(normalised(title)) >= TITLE


def first_of_text(texts: NDArray[np.int64]) -> NDArray[np.int32]:
    """The first paper of the same text as each, ``[P]``; ``texts`` are their `paper_number`."""
    first = np.arange(len(texts), dtype=np.int32)
    known = np.flatnonzero(texts).astype(np.int32)
    order = known[np.argsort(texts[known], kind="stable")]
    texts = texts[order]
    # Places, in order of the texts, whose predecessor has the same text; a run shares one first.
    again = np.flatnonzero(texts[1:] == texts[:-1]) + 1
    run = np.cumsum(np.diff(again, prepend=-1) != 1) - 1
    begins = again[np.flatnonzero(np.diff(run, prepend=-1))] - 1
    first[order[again]] = order[begins[run]]
    return first


def _note_same_texts(audit: Audit, ids: Sequence[str], first: NDArray[np.int32]) -> None:
    """Count the papers whose text an earlier one has."""
    more = np.flatnonzero(first != np.arange(len(first)))
    if not len(more):
        return
    pairs = [f"{ids[paper]} is {ids[int(first[paper])]}" for paper in more[:EXAMPLES]]
    audit.drop_many(SAME_TEXT, len(more), pairs)
    audit.notes.append(
        f"{len(more):,} papers have the text of another id (the first: {pairs[0]}). They are one "
        "paper with it: in triplets, for what is no negative, and for the split."
    )


def _columns() -> dict[str, Any]:
    import pyarrow as pa

    text = pa.string()
    columns = {"paper": pa.int32(), "paper_id": text, "title": text, "abstract": text}
    # Sentences are those of an abstract that came as a list.
    return columns | {"sentences": pa.list_(text), "year": pa.int16()}


def _reference_columns() -> dict[str, Any]:
    import pyarrow as pa

    return _place() | {"row": pa.int32(), "other": pa.string(), "cites": pa.bool_()}


def _place() -> dict[str, Any]:
    import pyarrow as pa

    return {"place": pa.int64()}


def _write_sorted(unsorted: Path, to: Path, work: Path, number: NDArray[np.int32]) -> None:
    """Write the papers in the order of their numbers; ``number`` is that of each row ``[P]``.

    Rows are first put into parts of neighbouring numbers, each of which fits into memory.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(unsorted) as file:
        groups = (file.metadata.row_group(i) for i in range(file.num_row_groups))
        size = sum(group.total_byte_size for group in groups)
        parts = min(size // SORTED_AT_ONCE + 1, MOST_PARTS)
        of_part = len(number) // parts + 1
        files = [work / f"papers_{part:05d}.arrow" for part in range(len(number) // of_part + 1)]
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        done = 0
        with ExitStack() as stack:
            writers = [
                stack.enter_context(pa.ipc.new_stream(path, file.schema_arrow, options=options))
                for path in files
            ]
            for batch in file.iter_batches(ROWS):
                numbers = number[done : done + len(batch)]
                done += len(batch)
                batch = batch.set_column(0, "paper", pa.array(numbers))
                part = numbers // of_part
                for i in np.unique(part).tolist():
                    writers[i].write_batch(batch.take(pa.array(np.flatnonzero(part == i))))
    unsorted.unlink()
    columns = _columns()
    with ParquetRows(to, columns) as writer:
        for path in files:
            with pa.ipc.open_stream(path) as stream:
                table = stream.read_all().sort_by("paper").combine_chunks()
            path.unlink()
            for batch in table.to_batches(ROWS):
                writer.write(*(batch.column(name).cast(kind) for name, kind in columns.items()))
