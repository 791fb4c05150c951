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
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import Audit, Dropped, Reasons, checked_rows
from sciembed_train.corpus.citations.citation_mentions import mask_mentions_in
from sciembed_train.corpus.citations.citing_sentences import MENTION_MASK
from sciembed_train.corpus.citations.contexts import Context, PlacedContext
from sciembed_train.corpus.mining.cocitation_settings import REASONS, UNKNOWN, CocitationMining
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.store.corpus_files import ParquetRows
from sciembed_train.corpus.unmatched_ids import UnmatchedIds
from sciembed_train.progress import Stage

ROWS = 8192  # of one row group
TEXTS = ("citing_id", "text", "before", "after")  # of a context
ABSENT = "a given `marker` that is not in its text"
IN_EXCLUDED = "stands in an excluded paper"
_DIGITS = re.compile(r"\d+")


class ContextGroups(ABC):
    """Three files of contexts in the folder ``work``, and their account.

    ``mentions`` has a row for each context that may be used, ``members`` the papers of its list
    (contexts with the same papers have the same list), and ``texts`` its text. ``audit`` counts the
    contexts that are left out, ``removed`` their papers by reason, and ``sizes`` the contexts by
    the number of their papers.
    """

    def __init__(
        self, work: Path, name: str, audit: Audit, papers: Papers, mining: CocitationMining
    ) -> None:
        import pyarrow as pa

        self.audit, self.papers, self.mining = audit, papers, mining
        self.removed = Reasons()
        self.sizes: Counter[int] = Counter()
        self.mentions, self.members, self.texts = (
            work / f"{name}_{part}.parquet" for part in ("mentions", "members", "texts")
        )
        number = pa.int64()
        keys = ("mention", "place", "list", "digest", "stripped", "citing")
        texts = {"mention": number, "place": number, **dict.fromkeys(TEXTS, pa.string())}
        self._mentions = ParquetRows(self.mentions, dict.fromkeys(keys, number), ROWS)
        self._members = ParquetRows(self.members, {"list": number, "paper": pa.int32()}, ROWS)
        self._texts = ParquetRows(self.texts, {**texts, "cited": pa.list_(pa.int32())}, ROWS)

    @abstractmethod
    def take(self, context: Context, where: str) -> tuple[int, list[int]] | None:
        """The list and the papers of a context; None if it is left out, which is counted."""

    def close(self) -> None:
        """Write the last rows and close the files."""
        for file in (self._mentions, self._members, self._texts):
            file.close()

    def add_group(self, group: Sequence[int]) -> int:
        """Add papers that are cited together; the number of their list."""
        list_id = _digest("\0".join(self.papers.ids[paper] for paper in group))
        for paper in group:
            self._members.add(list_id, paper)
        return list_id

    def add_context(
        self, number: int, place: int, list_id: int, group: list[int], context: Context
    ) -> None:
        """Add a context that may be used, which has this number in the input."""
        texts = [getattr(context, name) for name in TEXTS]
        digest = _digest("\0".join((str(list_id), *texts)))
        stripped = _digest(" ".join(_DIGITS.sub("", context.text).split()))
        citing = _digest(context.citing_id) if context.citing_id else 0
        self._mentions.add(number, place, list_id, digest, stripped, citing)
        self._texts.add(number, place, *texts, group)

    def remove(self, reason: str, paper_id: str, where: str) -> None:
        """Count a cited paper that is left out of its context."""
        self.removed.add(reason, f"{paper_id}, {where}")


class PaperGroups(ContextGroups):
    """Contexts as groups of two papers or more that may be in a pair.

    Groups are written whether the filters let their context pass or not: the papers are known to
    be cited together. ``why`` is the result of `usable_papers`.
    """

    def __init__(
        self,
        work: Path,
        audit: Audit,
        papers: Papers,
        mining: CocitationMining,
        why: NDArray[np.int8],
    ) -> None:
        super().__init__(work, "contexts", audit, papers, mining)
        self.why = why
        self.unmatched, self.cited = UnmatchedIds(), 0

    def _match(self, cited_ids: Sequence[str]) -> None:
        self.cited += len(cited_ids)
        for paper_id in cited_ids:
            if paper_id not in self.papers.number:
                self.unmatched.add(paper_id)

    def note(self, source: str) -> None:
        """Add a note where many cited ids name no paper."""
        note = self.unmatched.note(source, self.cited, "cited ids", self.papers.ids)
        if note is not None:
            self.audit.notes.append(note)

    def take(self, context: Context, where: str) -> tuple[int, list[int]] | None:
        """The list and the papers of a context that may be in a pair; None if it is left out."""
        number = self.papers.number
        self._match(context.cited_ids)
        known = [(i, number[i]) for i in context.cited_ids if i in number]
        group = sorted(paper for _, paper in known if not self.why[paper])
        if len(group) < len(context.cited_ids):
            for paper_id in context.cited_ids:
                paper = number.get(paper_id)
                if reason := UNKNOWN if paper is None else REASONS[self.why[paper]]:
                    self.remove(reason, paper_id, where)
        reason = _too_few(context, len(group), 2, "left")
        if reason is None:
            self.sizes[len(group)] += 1
            list_id = self.add_group(group)
            reason = self.mining.refuses(context.text, len(group))
            if reason is None:
                return list_id, group
        self.audit.drop(reason, where)
        return None


class CitingSentences(ContextGroups):
    """Contexts as sentences with all the known papers that they cite.

    No sentence may cite one of the ``excluded`` papers, known or not.
    """

    def __init__(
        self,
        work: Path,
        audit: Audit,
        papers: Papers,
        mining: CocitationMining,
        excluded: Container[str],
    ) -> None:
        super().__init__(work, "sentences", audit, papers, mining)
        self.excluded = excluded

    def take(self, context: Context, where: str) -> tuple[int, list[int]] | None:
        """The list and the known papers that a sentence cites; None if it is left out."""
        number = self.papers.number
        known = sorted(number[i] for i in context.cited_ids if i in number)
        if len(known) < len(context.cited_ids):
            for paper_id in context.cited_ids:
                if paper_id not in number:
                    self.remove(UNKNOWN, paper_id, where)
        least = 2 if self.mining.sentence_pairs == "set" else 1
        reason = _too_few(context, len(known), least, "known")
        # A sentence on an evaluation paper would be trained on with whatever else it cites.
        if reason is None and any(i in self.excluded for i in context.cited_ids):
            reason = "cites an excluded paper"
        reason = reason or self.mining.refuses(context.text)
        if reason is not None:
            self.audit.drop(reason, where)
            return None
        self.sizes[len(known)] += 1
        return self.add_group(known), known


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
    groups: PaperGroups,
    sentences: CitingSentences | None,
    masking: Masking | None,
    stage: Stage,
    excluded: Container[str] = (),
) -> None:
    """Check every context, and write what mining needs; contexts in excluded papers are left out.

    Filters look at the unmasked text. Without ``sentences`` no sentence pairs are mined, and
    without ``masking`` citation mentions stay.

    Raises:
        UserError: more rows are malformed than allowed.
    """
    audit = groups.audit
    files: list[ContextGroups] = [groups, *([sentences] if sentences else [])]
    for place, context in checked_rows(rows, table.where, audit, stage):
        where = table.where(place)
        if context.citing_id and context.citing_id in excluded:
            for file in files:
                file.audit.drop(IN_EXCLUDED, where)
            continue
        ids = dict.fromkeys(groups.papers.as_spelled(context.cited_ids))
        context = dataclasses.replace(context, cited_ids=tuple(ids))
        masked = None if masking else context
        for file in files:
            taken = file.take(context, where)
            if taken is None:
                continue
            if masked is None:
                assert masking is not None
                masked = masking.mask(context, where)
            file.add_context(audit.rows, place, *taken, masked)
    for file in files:
        file.close()
    groups.note(table.source)
    if sentences is not None:
        sentences.audit.rows = audit.rows - audit.n_bad


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
