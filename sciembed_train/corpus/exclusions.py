"""Finds the papers of a corpus that are kept out of training, such as those of a benchmark.

A line of a list is the id of a paper, in any spelling, else a title; what a file or folder of
papers names is found by its ids and by its title. Titles are compared by `text.normalise`. Papers
that share the title or the text of an excluded one are excluded too. An excluded paper has no text
for mining (`Papers.usable`), its citations are left out, and it is never drawn
(`Corpus.distinct_papers`).

Shapes: ``P`` papers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import count_and_examples
from sciembed_train.corpus.exclusion_files import Entry, ExclusionPlace
from sciembed_train.corpus.paper_ids import PaperIds
from sciembed_train.corpus.papers import Papers
from sciembed_train.errors import UserError
from sciembed_train.text.normalise import text_number

EXCLUDED = "excluded"
MISSING = "that match nothing"
NOTHING_LEFT = (
    "All {} papers that have a text are excluded (--exclude): nothing is left to train on. Exclude "
    "fewer papers, or give others."
)


class _Place:
    """The entries of a place, and which of them are known."""

    def __init__(self, place: ExclusionPlace) -> None:
        self.place = place
        self.entries: list[Entry] = list(place.read())
        self.by_id = np.zeros(len(self.entries), np.bool_)
        self.by_title = np.zeros(len(self.entries), np.bool_)
        self.other_title: list[str] = []

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``report.json``."""
        missing = (e.name for e, known in zip(self.entries, self.known, strict=True) if not known)
        return {
            "entries": len(self.entries),
            "found by id": int(self.by_id.sum()),
            "found by title": int((self.by_title & ~self.by_id).sum()),
            MISSING: count_and_examples(missing),
            "sha256": {file["name"]: file["sha256"] for file in self.place.checksums()},
        }

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether each entry is a known paper, document or text."""
        return self.by_id | self.by_title

    def notes(self) -> list[str]:
        """Notes on the entries."""
        facts, name = self.as_dict(), self.place.name
        n_known = int(self.known.sum())
        text = (
            f"Excluded by {name}: {n_known:,} of its {len(self.entries):,} entries are known, "
            f"{facts['found by id']:,} by id and {facts['found by title']:,} by title"
        )
        missing = facts[MISSING]
        if missing["count"]:
            examples = ", ".join(map(repr, missing["examples"][:3]))
            text += f"; {missing['count']:,} match nothing, such as {examples}"
        lines = [f"{text}."]
        if self.other_title:
            lines.append(
                f"{len(self.other_title):,} ids of {name} name papers that have another title "
                f"there (the first: {self.other_title[0]}). They are excluded all the same; if the "
                "ids of the two collections have nothing to do with each other, give titles."
            )
        return lines


class Exclusions:
    """What is to be kept out of a corpus; empty where nothing is.

    ``documents`` and ``task_texts`` count what `excludes` was true of; its callers add to them.

    Args:
        places: the files and folders that name it.

    Raises:
        UserError: a place cannot be read.
    """

    def __init__(self, places: Iterable[ExclusionPlace] = ()) -> None:
        self.places = [_Place(place) for place in places]
        self.papers: Papers | None = None
        self.documents = self.task_texts = 0
        ids: dict[str, int] = {}
        titles: set[int] = set()
        for place in self.places:
            for entry in place.entries:
                for paper_id in entry.ids:
                    ids.setdefault(paper_id, len(ids))
                titles.add(entry.title)
        self._ids, self._titles = PaperIds(ids), titles - {0}
        self._seen_ids: set[str] = set()
        self._seen_titles: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self.places)

    def __contains__(self, paper_id: object) -> bool:
        """Whether an id names an excluded paper, known or not."""
        if not self.places or not isinstance(paper_id, str):
            return False
        if self.papers is not None and (number := self.papers.finder.find(paper_id)) >= 0:
            return bool(self.papers.excluded[number])
        return self._ids.find(paper_id) >= 0

    def excludes(self, paper_id: str | None, title: str | None) -> bool:
        """Whether a text of this id or of this title is to be kept out."""
        if not self.places:
            return False
        is_excluded = False
        if paper_id is not None and paper_id in self:
            self._seen_ids.add(paper_id)
            is_excluded = True
        if (number := text_number(title)) in self._titles:
            self._seen_titles.add(number)
            is_excluded = True
        return is_excluded

    def exclude_papers(self, papers: Papers) -> None:
        """Find the papers, and mark them as excluded (`Papers.exclude`)."""
        self.papers = papers
        if not self.places:
            return
        assert papers.titles is not None
        excluded = np.zeros(len(papers.ids), np.bool_)
        wanted: set[int] = set()
        known = set(np.unique(papers.titles).tolist()) - {0}
        for place in self.places:
            for at, entry in enumerate(place.entries):
                numbers = {papers.finder.find(paper_id) for paper_id in entry.ids} - {-1}
                if numbers:
                    place.by_id[at] = True
                    excluded[list(numbers)] = True
                    if not place.place.is_list:
                        _note_other_title(place, entry, numbers, papers)
                if entry.title in known and not (numbers and place.place.is_list):
                    place.by_title[at] = True
                    wanted.add(entry.title)
        titles, first = papers.titles, papers.first
        excluded |= np.isin(titles, _array(wanted))
        size = -1
        while size != (size := int(excluded.sum())):
            excluded_titles = titles[excluded]
            excluded |= np.isin(titles, excluded_titles[excluded_titles != 0])
            excluded |= np.isin(first, first[excluded])
        with_text = int(papers.usable.sum())
        papers.exclude(excluded)
        self._titles |= set(titles[excluded].tolist()) - {0}
        if with_text and not papers.usable.any():
            raise UserError(NOTHING_LEFT.format(f"{with_text:,}"))

    def check(self, kinds: Sequence[str]) -> None:
        """Raise `UserError` where no line of a list is known; ``kinds`` as messages name them."""
        self._mark_seen()
        for place in self.places:
            if place.place.is_list and place.entries and not place.known.any():
                raise UserError(
                    f"{place.place.path}: not one of its {len(place.entries):,} lines is the id or "
                    f"the title of a {' or '.join(kinds)} (the first is "
                    f"{place.entries[0].name!r}). One id, DOI or title a line is expected, no "
                    "header."
                )

    def _mark_seen(self) -> None:
        """Mark the entries that were found as documents or texts of tasks."""
        ids = PaperIds(dict.fromkeys(self._seen_ids, 0))
        for place in self.places:
            for at, entry in enumerate(place.entries):
                place.by_id[at] |= any(ids.find(paper_id) >= 0 for paper_id in entry.ids)
                place.by_title[at] |= entry.title in self._seen_titles

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for ``report.json``, ``corpus.json`` and model cards."""
        self._mark_seen()
        excluded = None if self.papers is None else int(self.papers.excluded.sum())
        counts = {
            "papers": excluded,
            "documents": self.documents or None,
            "texts of tasks": self.task_texts or None,
        }
        return {
            **{name: count for name, count in counts.items() if count is not None},
            "places": _by_name(self.places),
        }

    def notes(self) -> list[str]:
        """Notes on the places."""
        lines = [line for place in self.places for line in place.notes()]
        if self.papers is not None:
            lines.append(
                f"{int(self.papers.excluded.sum()):,} papers are excluded, those of the same text "
                "or title among them: they are in no training example."
            )
        return lines


def _by_name(places: Sequence[_Place]) -> dict[str, Any]:
    """The account of each place by its name; of several with one name by their numbers."""
    accounts: dict[str, Any] = {}
    for place in places:
        name = place.place.name
        number = sum(earlier.place.name == name for earlier in places[: places.index(place)])
        accounts[f"{name} ({number + 1})" if number else name] = place.as_dict()
    return accounts


def _note_other_title(place: _Place, entry: Entry, numbers: set[int], papers: Papers) -> None:
    assert papers.titles is not None
    for number in numbers:
        title = int(papers.titles[number])
        if entry.title and title and title != entry.title:
            place.other_title.append(papers.ids[number])


def _array(numbers: set[int]) -> NDArray[np.int64]:
    return np.fromiter(numbers, np.int64, len(numbers))
