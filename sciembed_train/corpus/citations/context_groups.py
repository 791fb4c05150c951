"""What mining needs of contexts, written as they are read.

A context is taken as a *group*, the papers it cites that may be in a pair, two or more; papers that
may not are removed, each counted with its reason. Where sentence pairs are mined it is also taken
as a *sentence*, with all the known papers it cites. Contexts are streamed: integers go to two
files, texts to a third.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import Audit, Dropped, checked_rows
from sciembed_train.corpus.citations.citation_mentions import mask_mentions_in
from sciembed_train.corpus.citations.citing_sentences import MENTION_MASK
from sciembed_train.corpus.citations.contexts import Context, PlacedContext
from sciembed_train.corpus.citations.usable_papers import REASONS, UNKNOWN
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.progress import Stage

ROWS = 8192  # of one row group
ABSENT = "a given `marker` that is not in its text"
_DIGITS = re.compile(r"\d+")


class ContextGroups:
    """Three files of contexts, and their account.

    ``mentions`` has a row for each context that may be used, ``members`` the papers of its list
    (contexts with the same papers have the same list), and ``texts`` its text.

    Args:
        work: a folder for the files.
        name: the beginning of the names of the files.
        audit: counts the contexts that are left out.
        excluded: ids of papers, known or not, that no sentence may cite.
    """

    def __init__(
        self, work: Path, name: str, audit: Audit, excluded: set[str] | None = None
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.mentions, self.members, self.texts = (
            work / f"{name}_{part}.parquet" for part in ("mentions", "members", "texts")
        )
        self.audit, self.excluded = audit, excluded or set()
        self.removed: dict[str, Dropped] = {}
        self.sizes: Counter[int] = Counter()  # contexts by the number of their papers
        text = pa.string()
        columns = {
            self.mentions: dict.fromkeys(
                ("mention", "place", "list", "digest", "stripped", "citing"), pa.int64()
            ),
            self.members: {"list": pa.int64(), "paper": pa.int32()},
            self.texts: {"mention": pa.int64(), "place": pa.int64()}
            | dict.fromkeys(("citing_id", "text", "before", "after"), text)
            | {"cited": pa.list_(pa.int32())},
        }
        self.schemas = [pa.schema(list(fields.items())) for fields in columns.values()]
        self.files = [
            pq.ParquetWriter(path, schema, compression="zstd")
            for path, schema in zip(columns, self.schemas, strict=True)
        ]
        self.rows: list[list[tuple[Any, ...]]] = [[], [], []]

    def close(self) -> None:
        """Write the last rows and close the files."""
        for number, file in enumerate(self.files):
            self._flush(number)
            file.close()

    def add_group(self, papers: Papers, group: Sequence[int]) -> int:
        """Add papers that are cited together; the number of their list."""
        list_id = _digest("\0".join(papers.ids[paper] for paper in group))
        self.rows[1].extend((list_id, paper) for paper in group)
        self._flush(1, ROWS)
        return list_id

    def add_context(
        self, number: int, place: int, list_id: int, group: list[int], context: Context
    ) -> None:
        """Add a context that may be used.

        Args:
            number: of the context in the input.
            place: its row.
            list_id: the list of its papers.
            group: its papers.
            context: as it is stored.
        """
        texts = (context.citing_id, context.text, context.before, context.after)
        digest = _digest("\0".join((str(list_id), *texts)))
        stripped = _digest(" ".join(_DIGITS.sub("", context.text).split()))
        citing = _digest(context.citing_id) if context.citing_id else 0
        self.rows[0].append((number, place, list_id, digest, stripped, citing))
        self.rows[2].append((number, place, *texts, group))
        self._flush(0, ROWS)
        self._flush(2, ROWS)

    def _flush(self, file: int, at_least: int = 1) -> None:
        import pyarrow as pa

        rows, schema = self.rows[file], self.schemas[file]
        if len(rows) < at_least:
            return
        columns = [
            pa.array(column, kind)
            for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)
        ]
        self.files[file].write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        self.rows[file] = []


@dataclass
class Masking:
    """Masks citation mentions and counts the contexts that have any, or not the one they name."""

    masked: int = 0
    contexts: int = 0
    absent: Dropped = field(default_factory=Dropped)

    def mask(self, context: Context, where: str) -> Context:
        """The context without its citation mentions."""
        self.contexts += 1
        texts = {
            name: mask_mentions_in(getattr(context, name), context.mentions)
            for name in ("text", "before", "after")
        }
        self.masked += texts["text"] != context.text
        unspaced = context.text.replace(" ", "")
        if any(mention.replace(" ", "") not in unspaced for mention in context.mentions):
            self.absent.add(where)
        return dataclasses.replace(context, **texts)

    def note(self) -> str:
        """A sentence for the report."""
        text = (
            f"{self.masked:,} of {self.contexts:,} contexts had citation marks, which are masked "
            f"as {MENTION_MASK} (mask_mentions)."
        )
        if self.absent.count:
            text += f" {self.absent.count:,} have {ABSENT}, the first {self.absent.examples[0]}."
        return text


def write_context_groups(
    rows: Iterable[PlacedContext],
    table: Table,
    papers: Papers,
    why: NDArray[np.int8],
    mining: CocitationMining,
    *,
    groups: ContextGroups,
    sentences: ContextGroups | None,
    masking: Masking | None,
    stage: Stage,
) -> None:
    """Check every context, and write what mining needs.

    Groups of papers are written whether the filters let their context pass or not: the papers are
    known to be cited together.

    Args:
        rows: the contexts.
        table: the file that they come from.
        papers: the papers of the corpus.
        why: see `usable_papers`.
        mining: the filters, which look at the unmasked text.
        groups: takes contexts as groups of papers.
        sentences: takes them as sentences; None where no sentence pairs are mined.
        masking: masks citation mentions; None leaves them.
        stage: reports the number of rows.

    Raises:
        UserError: more rows are malformed than allowed.
    """
    audit = groups.audit
    files = [(groups, _take_group), *([(sentences, _take_sentence)] if sentences else [])]
    for place, context in checked_rows(rows, table.where, audit, stage):
        where = table.where(place)
        masked = None if masking else context
        for file, take in files:
            taken = take(context, papers, why, mining, file, where)
            if taken is None:
                continue
            if masked is None:
                assert masking is not None
                masked = masking.mask(context, where)
            list_id, group = taken
            file.add_context(audit.rows, place, list_id, group, masked)
    for file, _ in files:
        file.close()
    if sentences is not None:
        sentences.audit.rows = audit.rows - audit.n_bad


def _take_group(
    context: Context,
    papers: Papers,
    why: NDArray[np.int8],
    mining: CocitationMining,
    file: ContextGroups,
    where: str,
) -> tuple[int, list[int]] | None:
    """The list and the papers of a context that may be in a pair; None if it is left out."""
    group = sorted(paper for paper in _known(context, papers) if not why[paper])
    if len(group) < len(context.cited_ids):
        for paper_id in context.cited_ids:
            paper = papers.key.get(paper_id)
            if reason := UNKNOWN if paper is None else REASONS[why[paper]]:
                file.removed.setdefault(reason, Dropped()).add(f"{paper_id}, {where}")
    reason = _too_few(context, len(group), 2, "left")
    if reason is None:
        file.sizes[len(group)] += 1
        list_id = file.add_group(papers, group)
        reason = mining.refuses(context.text, len(group))
        if reason is None:
            return list_id, group
    file.audit.drop(reason, where)
    return None


def _take_sentence(
    context: Context,
    papers: Papers,
    why: NDArray[np.int8],
    mining: CocitationMining,
    file: ContextGroups,
    where: str,
) -> tuple[int, list[int]] | None:
    """The list and the known papers that a sentence cites; None if it is left out."""
    known = sorted(_known(context, papers))
    if len(known) < len(context.cited_ids):
        for paper_id in context.cited_ids:
            if paper_id not in papers.key:
                file.removed.setdefault(UNKNOWN, Dropped()).add(f"{paper_id}, {where}")
    least = 2 if mining.sentence_pairs == "set" else 1
    reason = _too_few(context, len(known), least, "known")
    # A sentence on an evaluation paper would be trained on with whatever else it cites.
    if reason is None and not file.excluded.isdisjoint(context.cited_ids):
        reason = "cites an excluded paper"
    reason = reason or mining.refuses(context.text)
    if reason is not None:
        file.audit.drop(reason, where)
        return None
    file.sizes[len(known)] += 1
    return file.add_group(papers, known), known


def _known(context: Context, papers: Papers) -> list[int]:
    """The papers of the corpus that a context cites."""
    return [papers.key[paper_id] for paper_id in context.cited_ids if paper_id in papers.key]


def _too_few(context: Context, count: int, least: int, quality: str) -> str | None:
    """Why a context cites too few papers; None if it cites enough."""
    if count >= least:
        return None
    if not context.cited_ids:
        return "cites no paper"
    if least == 1:
        return f"none of the papers it cites is {quality}"
    if len(context.cited_ids) == 1:
        return "cites one paper only"
    return f"of the papers it cites fewer than two are {quality}"


def _digest(text: str) -> int:
    """A hash of a text, from 1 to 2^62."""
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return 1 + (int.from_bytes(digest, "big") >> 2)
