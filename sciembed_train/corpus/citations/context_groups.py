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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import Audit, BadRow, Dropped
from sciembed_train.corpus.citations.citation_mentions import mask_mentions_in
from sciembed_train.corpus.citations.citing_sentences import MARK
from sciembed_train.corpus.citations.contexts import REASONS, UNKNOWN, Context, Place
from sciembed_train.corpus.mining.cocitation_mining import CocitationMining
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.progress import Stage

ROWS = 8192  # of one row group
NOT_THERE = "a given `marker` that is not in its text"
_DIGITS = re.compile(r"\d+")


class ContextGroups:
    """Three files of contexts, and the account of them.

    ``mentions`` has a row for each context that may be used, ``members`` the papers of its list
    (contexts with the same papers have the same list), and ``texts`` its text.

    Args:
        work: a folder for the files.
        name: what the files are called by.
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
        self.sizes: dict[int, int] = {}  # contexts by the number of papers left
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
        """Write what is left and close the files."""
        for number, file in enumerate(self.files):
            self._flush(number)
            file.close()

    def group(self, papers: Papers, group: Sequence[int]) -> int:
        """Take papers that are cited together; the number of their list."""
        of_group = _digest("\0".join(papers.ids[paper] for paper in group))
        self.rows[1].extend((of_group, paper) for paper in group)
        self._flush(1, ROWS)
        return of_group

    def context(
        self, mention: int, place: int, of_group: int, group: list[int], context: Context
    ) -> None:
        """Take a context that may be used."""
        texts = (context.citing_id, context.text, context.before, context.after)
        digest = _digest("\0".join((str(of_group), *texts)))
        stripped = _digest(" ".join(_DIGITS.sub("", context.text).split()))
        citing = _digest(context.citing_id) if context.citing_id else 0
        self.rows[0].append((mention, place, of_group, digest, stripped, citing))
        self.rows[2].append((mention, place, *texts, group))
        for number in (0, 2):
            self._flush(number, ROWS)

    def _flush(self, number: int, least: int = 1) -> None:
        import pyarrow as pa

        rows, schema = self.rows[number], self.schemas[number]
        if len(rows) < least:
            return
        columns = [
            pa.array(column, kind)
            for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)
        ]
        self.files[number].write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        self.rows[number] = []


@dataclass
class Masking:
    """How many contexts had a citation mark that was masked, and markers that were not there."""

    masked: int = 0
    seen: int = 0
    absent: Dropped = field(default_factory=Dropped)

    def shown(self, context: Context, where: str) -> Context:
        """The context without its citation marks."""
        self.seen += 1
        texts = {
            name: mask_mentions_in(getattr(context, name), context.markers)
            for name in ("text", "before", "after")
        }
        self.masked += texts["text"] != context.text
        there = context.text.replace(" ", "")
        if any(marker.replace(" ", "") not in there for marker in context.markers):
            self.absent.add(where)
        return dataclasses.replace(context, **texts)

    def note(self) -> str:
        """A sentence for the report."""
        told = (
            f"{self.masked:,} of {self.seen:,} contexts had citation marks, which are masked as "
            f"{MARK} (mask_mentions)."
        )
        if self.absent.count:
            told += f" {self.absent.count:,} have {NOT_THERE}, the first {self.absent.examples[0]}."
        return told


def write_context_groups(
    rows: Iterable[Place],
    table: Table,
    papers: Papers,
    why: NDArray[np.int8],
    mining: CocitationMining,
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
        table: says where one stands.
        papers: the papers of the corpus.
        why: see `contexts.usable_papers`.
        mining: the filters.
        groups: takes contexts as groups of papers.
        sentences: takes them as sentences; None where no sentence pairs are mined.
        masking: masks citation marks; None leaves them. The filters look at the text as given.
        stage: is told how many rows are read.

    Raises:
        UserError: more rows are malformed than allowed.
    """
    takers = [(groups, _as_group), *([(sentences, _as_sentence)] if sentences else [])]
    audit = groups.audit
    for place, context in rows:
        audit.rows += 1
        if audit.rows % 4096 == 0:
            stage.reach(audit.rows)
        if isinstance(context, BadRow):
            audit.bad(context, table.where(place))
            continue
        shown: Context | None = None if masking else context
        for mentions, take in takers:
            found = take(context, papers, why, mining, mentions, table.where(place))
            if found is None:
                continue
            if shown is None:
                assert masking is not None
                shown = masking.shown(context, table.where(place))
            mentions.context(audit.rows, place, *found, shown)
    stage.reach(audit.rows)
    audit.check()
    for mentions, _ in takers:
        mentions.close()
    if sentences is not None:
        sentences.audit.rows = audit.rows - audit.n_bad


def _as_group(
    context: Context,
    papers: Papers,
    why: NDArray[np.int8],
    mining: CocitationMining,
    mentions: ContextGroups,
    where: str,
) -> tuple[int, list[int]] | None:
    """The papers of a context that may be in a pair, and their list; None if it is left out."""
    found = (papers.key.get(paper_id) for paper_id in context.cited_ids)
    group = sorted(paper for paper in found if paper is not None and not why[paper])
    if len(group) < len(context.cited_ids):
        _explain_removed(context, papers, why, mentions.removed, where)
    reason = _too_few(context, len(group), 2, "left")
    if reason is None:
        mentions.sizes[len(group)] = mentions.sizes.get(len(group), 0) + 1
        of_group = mentions.group(papers, group)
        reason = mining.refuses(context.text, len(group))
        if reason is None:
            return of_group, group
    mentions.audit.drop(reason, where)
    return None


def _as_sentence(
    context: Context,
    papers: Papers,
    why: NDArray[np.int8],
    mining: CocitationMining,
    mentions: ContextGroups,
    where: str,
) -> tuple[int, list[int]] | None:
    """The known papers that a sentence cites, and their list; None if it is left out."""
    found = (papers.key.get(paper_id) for paper_id in context.cited_ids)
    known = sorted(paper for paper in found if paper is not None)
    if len(known) < len(context.cited_ids):
        for paper_id in context.cited_ids:
            if paper_id not in papers.key:
                mentions.removed.setdefault(UNKNOWN, Dropped()).add(f"{paper_id}, {where}")
    least = 2 if mining.sentence_pairs == "set" else 1
    reason = _too_few(context, len(known), least, "known")
    # What is said of an evaluation paper would be learnt with whatever else the sentence cites.
    if reason is None and not mentions.excluded.isdisjoint(context.cited_ids):
        reason = "cites an excluded paper"
    reason = reason or mining.refuses(context.text)
    if reason is not None:
        mentions.audit.drop(reason, where)
        return None
    mentions.sizes[len(known)] = mentions.sizes.get(len(known), 0) + 1
    return mentions.group(papers, known), known


def _explain_removed(
    context: Context,
    papers: Papers,
    why: NDArray[np.int8],
    removed: dict[str, Dropped],
    where: str,
) -> None:
    """Count the papers of a context that may be in no pair."""
    for paper_id in context.cited_ids:
        paper = papers.key.get(paper_id)
        reason = UNKNOWN if paper is None else REASONS[why[paper]]
        if reason:
            removed.setdefault(reason, Dropped()).add(f"{paper_id}, {where}")


def _too_few(context: Context, found: int, least: int, left: str) -> str | None:
    """Why a context cites too few papers; None if it cites enough."""
    if found >= least:
        return None
    if not context.cited_ids:
        return "cites no paper"
    if least == 1:
        return f"none of the papers it cites is {left}"
    if len(context.cited_ids) == 1:
        return "cites one paper only"
    return f"of the papers it cites fewer than two are {left}"


def _digest(text: str) -> int:
    """A number from 1 to 2^62 that a text stands for."""
    found = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return 1 + (int.from_bytes(found, "big") >> 2)
