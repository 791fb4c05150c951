"""Ids of one file that name no paper of another: how many, one of each file, and how they differ.

Two exports of one collection often spell ids differently, by a prefix (``S2:17`` and ``17``) or by
case, and then nearly nothing matches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

LOST = 0.1  # share of rows with an unknown id above which a note is made
_ENOUGH = 3  # unknown ids that are looked up among the papers'
_LEAST = 2  # characters that a prefix leaves


@dataclass
class UnmatchedIds:
    """Counts the rows of a file that name an unknown paper."""

    rows: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, *ids: str) -> None:
        """Count a row with unknown ids."""
        self.rows += 1
        if len(self.first) < _ENOUGH:
            self.first.extend(ids)

    def note(self, source: str, rows: int, unit: str, known: Sequence[str]) -> str | None:
        """A note on the file's ids; None where few are unknown.

        Args:
            source: the file.
            rows: that were read of it.
            unit: what its rows are.
            known: the papers' ids.
        """
        if not known or self.rows <= LOST * rows:
            return None
        unknown, paper_id, how = alike(self.first, known)
        text = (
            f"Only {(rows - self.rows) / rows:.0%} of the {rows:,} {unit} of {source} name papers "
            f"that are given: it has the id {unknown!r}, the papers have {paper_id!r}."
        )
        advice = f" They differ by {how}: spell the ids of both files alike." if how else ""
        return text + advice


def alike(unknown: Sequence[str], known: Sequence[str]) -> tuple[str, str, str]:
    """An unknown id, the known one that is most like it, and by what they differ, if clear."""
    names = {paper_id: paper_id.casefold() for paper_id in unknown}
    wanted = {name[start:] for name in names.values() for start in range(len(name) + 1)}
    long = tuple(name for name in names.values() if len(name) >= _LEAST)
    folded: dict[str, str] = {}  # the last id of each wanted form; all ids would take gigabytes
    longer: dict[str, str] = {}  # the first that ends with a name
    for known_id in known:
        fold = known_id.casefold()
        if fold.endswith(long):
            for name in filter(fold.endswith, long):
                wanted.add(longer.setdefault(name, fold))
        if fold in wanted:
            folded[fold] = known_id
    for paper_id, name in names.items():
        if name in folded:
            return paper_id, folded[name], "case"
    for paper_id, name in names.items():
        shorter = (name[start:] for start in range(1, len(name) - _LEAST + 1))
        end = next((end for end in shorter if end in folded), longer.get(name))
        if end is not None:
            return paper_id, folded[end], "a prefix"
    return unknown[0], known[0], ""
