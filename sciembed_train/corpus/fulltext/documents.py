"""Documents: full texts numbered in the order in which they are read, each once.

A document's number is its place among those kept; its split is a hash of its id, so that adding
documents moves none from one split to another. Texts go straight to the file: what is held of a
document is a digest of its text, and its id if it has one.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import Audit, BadRow, checked_rows, in_brackets, list_reasons
from sciembed_train.corpus.build_job import BuildJob
from sciembed_train.corpus.exclusions import EXCLUDED
from sciembed_train.corpus.fulltext.fulltext_records import Fulltext, Shape, read_fulltext
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.splits import assign_splits
from sciembed_train.corpus.store.corpus_files import SPLITS, ParquetRows, Split, save_documents
from sciembed_train.corpus.validation import is_unicode, not_unicode, read_id, repeated_id
from sciembed_train.errors import UserError

GROUP_CHARACTERS = 2**23  # of a row group: what is held at once when texts are written and read
PART = 2**20
# More characters than this without white space are no text in any script.
LONGEST_RUN = 2**20
_WHITE = re.compile(r"\s")
# Remains of a broken encoding and of PDF readers, without white space.
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff]")

EMPTY = "empty"
REPEATED = "a text given before"


def write_documents(job: BuildJob) -> tuple[dict[str, Any], dict[Split, set[str]]]:
    """Check every record, write ``documents.parquet`` and ``documents/<split>.npy``.

    Returns:
        Counts for ``corpus.json``, and the ids of the lists that name no document.

    Raises:
        UserError: more rows are malformed than allowed, or no document is left to train on.
    """
    table, settings, audit = job.inputs.fulltexts, job.settings, job.audit("fulltexts")
    assert table is not None
    shape = settings.format if settings.format in ("s2orc", "unarxive") else None
    seen: dict[str, int] = {}
    places = array("q")
    texts: set[bytes] = set()
    with job.progress.stage("fulltexts") as stage, _Writer(job) as writer:
        rows = _read_documents(table, shape)
        for place, (name, title, text) in checked_rows(rows, table.where, audit, stage, every=256):
            if name is not None:
                before = seen.setdefault(name, len(places))
                if before != len(places):
                    audit.bad(
                        repeated_id(name, table.where(places[before]), "document"),
                        table.where(place),
                    )
                    continue
                places.append(place)
            if not text:
                audit.drop(EMPTY, table.where(place))
                continue
            if job.exclusions.excludes(name, title):
                audit.drop(EXCLUDED, table.where(place))
                job.exclusions.documents += 1
                continue
            digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
            if digest in texts:
                audit.drop(REPEATED, table.where(place))
                continue
            texts.add(digest)
            writer.add_document(name if name is not None else table.name(place), text)
    audit.kept = writer.count
    if table.ignored_files:
        audit.notes.append(
            f"{table.source}: files that were not read, because their ending says no format of "
            f"full texts: {table.ignored_files:,}."
        )
    counts = _save(table, job.folder, writer, audit)
    job.report["fulltexts"] = audit.as_dict()
    return counts, writer.unknown


def _read_documents(
    table: Table, shape: Shape | None
) -> Iterator[tuple[int, tuple[str | None, str, str] | BadRow]]:
    """The place of every record with its id, if it has one, its title and its text."""
    for place, row in table.rows():
        try:
            if isinstance(row, BadRow):
                raise row
            record = read_fulltext(row, table.stem(place))
            if shape is not None and record.shape != shape:
                message = f"this is a {record.shape} record; --format {shape} was given."
                raise BadRow(f"not a record of {shape}", message)
            yield place, _id_title_and_text(record)
        except BadRow as bad:
            yield place, bad


def _id_title_and_text(record: Fulltext) -> tuple[str | None, str, str]:
    name = None
    if record.paper_id is not None and record.paper_id != "":
        name = read_id(record.paper_id, "paper_id")
    parts = []
    for part in record.parts():
        text = collapse(part)
        # Many texts begin with their title.
        if text and not (len(parts) == 1 and record.title and text.startswith(parts[0])):
            parts.append(text)
        elif text:
            parts[0] = text
    return name, record.title, " ".join(parts)


def collapse(text: str) -> str:
    """A text with single spaces for all white space and without control characters.

    Raises:
        BadRow: it is not Unicode, or no running text.
    """
    if not is_unicode(text):
        raise not_unicode("text")
    text = _CONTROL.sub("", text)
    if len(text) <= PART:
        return " ".join(text.split())
    # In parts, because a list of all the words of a very long text takes ten times its memory.
    parts, start = [], 0
    while start < len(text):
        end = min(start + PART, len(text))
        if end < len(text):
            white = _WHITE.search(text, end, end + LONGEST_RUN)
            if white is None and end + LONGEST_RUN < len(text):
                raise BadRow(
                    "no running text",
                    f"over {LONGEST_RUN:,} characters stand without a white space between them, "
                    f"from {text[end : end + 20]!r} on; expected running text.",
                )
            end = white.start() if white else len(text)
        parts.append(" ".join(text[start:end].split()))
        start = end
    return " ".join(part for part in parts if part)


def _save(table: Table, folder: Path, writer: _Writer, audit: Audit) -> dict[str, Any]:
    if not writer.count:
        why = in_brackets(list_reasons(audit.dropped, places=True))
        raise UserError(
            f"{table.source}: there is no document with a text among {audit.rows:,} rows{why}. "
            "There is nothing to read."
        )
    by_split = {}
    split = np.concatenate(writer.splits)
    for number, name in enumerate(SPLITS):
        chosen = np.flatnonzero(split == number).astype(np.int32)
        save_documents(folder, name, chosen)
        by_split[name] = len(chosen)
    if not by_split["train"]:
        raise UserError(
            f"{table.source}: all {writer.count:,} documents are held out (dev "
            f"{by_split['dev']:,}, test {by_split['test']:,}), none is left to train on. "
            "Lower --dev-share and --test-share, or give more documents."
        )
    return {
        "documents": writer.count,
        "documents_by_split": by_split,
        "document_characters": writer.characters,
    }


class _Writer(ParquetRows):
    """Writes documents in the order of the input, and assigns the split of each."""

    def __init__(self, job: BuildJob) -> None:
        import pyarrow as pa

        columns = {"document": pa.int32(), "document_id": pa.string(), "text": pa.string()}
        # Texts are long and distinct: a dictionary, or the minimum and maximum of a group,
        # would only repeat them.
        options = {"use_dictionary": False, "write_statistics": False}
        super().__init__(job.folder / "documents.parquet", columns, **options)
        self.settings, self.lists = job.settings, job.lists
        self.unknown: dict[Split, set[str]] = {name: set(ids) for name, ids in job.lists.items()}
        self.count = self.size = self.characters = 0
        self.splits: list[NDArray[np.int8]] = []

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        import pyarrow as pa

        pa.default_memory_pool().release_unused()

    def add_document(self, name: str, text: str) -> None:
        """Write the next document."""
        self.count += 1
        self.size += len(text)
        self.add(self.count - 1, name, text)
        if self.size >= GROUP_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write a row group, and assign the splits of its documents."""
        ids = [name for _, name, _ in self.rows]
        shares = self.settings.dev_share, self.settings.test_share
        self.splits.append(assign_splits(ids, self.settings.seed, *shares, self.lists))
        for unknown in self.unknown.values():
            unknown.difference_update(ids)
        self.characters += self.size
        self.size = 0
        super().flush()
