"""One record of a task as texts and labels.

A text is the list of its fields that are not empty, in the order of the task's ``fields``: two
records with the same fields are the same text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.tasks.task_types import Task, TaskBuilding
from sciembed_train.corpus.validation import is_unicode, missing_field, not_unicode, spell

MAY_LACK = ("abstract",)  # as in a file of papers; a row without another field is malformed
LARGEST = 3.4e38  # of the numbers that 32 bits hold
NO_TEXT = "no text: the fields are empty"
NO_POSITIVE = "no candidate with a score above 0"
NO_NEGATIVE = "no candidate without a score"
ONE_TEXT = "the positive or the negative is the query itself, or they are one text"

Text = tuple[str, ...]
# Makes the random numbers of one record, on demand, for that is slow.
Draws = Callable[[], np.random.Generator]
Label = int | float | tuple[int, ...] | None


@dataclass(frozen=True)
class Record:
    """A record that can be used.

    Args:
        texts: a labelled text alone, or the query and the texts it is compared with.
        label: number of its class, of each of its classes, or the target of a regression; None of
            triplets.
        pairs: indices in ``texts`` of each triplet's positive and negative; the query is the first.
        unused: candidates that are in no triplet: without a text, repeated, or the query.
    """

    texts: tuple[Text, ...]
    label: Label = None
    pairs: tuple[tuple[int, int], ...] = ()
    unused: int = 0

    @property
    def examples(self) -> int:
        """Number of examples of the record."""
        return len(self.pairs) or 1

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes it stands for when a sample is drawn."""
        if isinstance(self.label, tuple):
            return self.label
        return (self.label,) if isinstance(self.label, int) else ()


class RecordReader:
    """Reads the records of a task."""

    def __init__(self, task: Task, building: TaskBuilding) -> None:
        self.task, self.building = task, building
        self.classes = {name: number for number, name in enumerate(task.labels)}

    def read(self, row: Mapping[str, Any], draws: Draws) -> Record | BadRow | str:
        """The record, its fault, or why it gives no example."""
        if self.task.labelled:
            return self._labelled(row)
        if self.task.type == "triplet":
            return self._triplet(row)
        return self._search(row, draws)

    def _labelled(self, row: Mapping[str, Any]) -> Record | BadRow | str:
        text = self._text(row, "")
        if isinstance(text, BadRow):
            return text
        name = self.task.labels_field
        if name not in row:
            return missing_field(name, row)
        label = self._label(row[name], name)
        if isinstance(label, BadRow):
            return label
        return Record((text,), label) if text else NO_TEXT

    def _label(self, value: Any, name: str) -> Label | BadRow:
        if self.task.type == "regression":
            return _number(value, name)
        if not self.task.multi_label:
            return self._class(value, name)
        if not isinstance(value, list | tuple):
            return BadRow(
                f"{name} has a wrong type",
                f"`{name}` is {spell(value)}; expected a list of labels.",
            )
        numbers = set()
        for label in value:
            number = self._class(label, name)
            if isinstance(number, BadRow):
                return number
            numbers.add(number)
        return tuple(sorted(numbers))

    def _class(self, value: Any, name: str) -> int | BadRow:
        known = isinstance(value, str | int) and not isinstance(value, bool)
        number = self.classes.get(str(value).strip()) if known else None
        if number is None:
            return BadRow(
                f"{name} is no label of the task",
                f"`{name}` is {spell(value)}, which is none of the {len(self.classes)} labels of "
                f"{self.task.labels_from}.",
            )
        return number

    def _triplet(self, row: Mapping[str, Any]) -> Record | BadRow | str:
        texts = []
        for names in (("query",), ("pos", "positive"), ("neg", "negative")):
            name = next((name for name in names if name in row), None)
            if name is None:
                return missing_field(names[0], row)
            text = self._object_or_text(row[name], name)
            if isinstance(text, BadRow):
                return text
            texts.append(text)
        if not all(texts):
            return NO_TEXT
        return Record(tuple(texts), pairs=((1, 2),)) if len(set(texts)) == 3 else ONE_TEXT

    def _search(self, row: Mapping[str, Any], draws: Draws) -> Record | BadRow | str:
        for name in ("query", "candidates"):
            if name not in row:
                return missing_field(name, row)
        query = self._object_or_text(row["query"], "query")
        if isinstance(query, BadRow):
            return query
        candidates = self._candidates(row["candidates"])
        if isinstance(candidates, BadRow):
            return candidates
        positives = [text for text, score in candidates if score > 0]
        negatives = [text for text, score in candidates if score <= 0]
        if not query:
            return NO_TEXT
        if not positives:
            return NO_POSITIVE
        if not negatives:
            return NO_NEGATIVE
        return self._search_triplets(query, positives, negatives, draws)

    def _candidates(self, value: Any) -> list[tuple[Text, float]] | BadRow:
        """Text and score of each candidate; a text may be empty."""
        if not isinstance(value, list | tuple):
            message = f"`candidates` is {spell(value)}; expected a list of objects with fields."
            return BadRow("candidates has a wrong type", message)
        name, candidates = self.task.labels_field, []
        for number, candidate in enumerate(value, 1):
            where = f" of candidate {number}"
            if not isinstance(candidate, Mapping):
                message = (
                    f"candidate {number} is {spell(candidate)}; expected an object with fields."
                )
                return BadRow("a candidate has a wrong type", message)
            if name not in candidate:
                return missing_field(name, candidate, where)
            raw_score = candidate[name]
            raw_score = int(raw_score) if isinstance(raw_score, bool) else raw_score
            score = _number(raw_score, name, where)
            if isinstance(score, BadRow):
                return score
            text = self._text(candidate, where)
            if isinstance(text, BadRow):
                return text
            candidates.append((text, score))
        return candidates

    def _search_triplets(
        self, query: Text, positives: list[Text], negatives: list[Text], draws: Draws
    ) -> Record | str:
        """The search's triplets: as many as negatives, at most ``per_query``; positives cycle."""
        count = len(positives) + len(negatives)
        # A text may be a candidate twice; a positive is never also a negative.
        positives = _distinct(positives, {query})
        negatives = _distinct(negatives, {query, *positives})
        unused = count - len(positives) - len(negatives)
        if not positives or not negatives:
            return ONE_TEXT if unused == count else NO_POSITIVE if not positives else NO_NEGATIVE
        count = min(self.building.per_query, len(negatives))
        if self.building.negatives == "drawn":
            rng = draws()
            positives = [positives[i] for i in rng.permutation(len(positives))]
            negatives = [negatives[i] for i in rng.permutation(len(negatives))][:count]
        else:
            negatives = negatives[-count:]
        positives = positives[:count]
        pairs = [(1 + i % len(positives), 1 + len(positives) + i) for i in range(count)]
        return Record((query, *positives, *negatives), None, tuple(pairs), unused)

    def _object_or_text(self, value: Any, name: str) -> Text | BadRow:
        """A text that is an object with fields, or plain."""
        if isinstance(value, str):
            return not_unicode(name) if not is_unicode(value) else _not_empty([value])
        if not isinstance(value, Mapping):
            message = f"`{name}` is {spell(value)}; expected text, or an object with fields."
            return BadRow(f"{name} has a wrong type", message)
        return self._text(value, f" of `{name}`")

    def _text(self, row: Mapping[str, Any], where: str) -> Text | BadRow:
        return read_text(row, self.task.fields, where)


def read_text(row: Mapping[str, Any], fields: Sequence[str], where: str = "") -> Text | BadRow:
    """The named fields of a text that are not empty, in their order.

    ``where`` names the object of the fields in messages: `` of candidate 3``.
    """
    values = []
    for name in fields:
        if name not in row:
            if name in MAY_LACK:
                continue
            return missing_field(name, row, where)
        value = _field(row[name])
        if value is None:
            message = f"`{name}`{where} is {spell(row[name])}; expected text, a number or null."
            return BadRow(f"{name} has a wrong type", message)
        if not is_unicode(value):
            return not_unicode(name)
        values.append(value)
    return _not_empty(values)


def _field(value: Any) -> str | None:
    """A field as text, None for other types; a table writes the year 1964 as 1964.0."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
        return " ".join(part.strip() for part in value if part.strip())
    return None


def _not_empty(values: Sequence[str]) -> Text:
    return tuple(text for value in values if (text := value.strip()))


def _distinct(texts: Sequence[Text], used: set[Text]) -> list[Text]:
    """The texts that are neither empty nor used, each once, in their order."""
    return [text for text in dict.fromkeys(texts) if text and text not in used]


def _number(value: Any, name: str, where: str = "") -> float | BadRow:
    """A finite number, also one that a table holds as text."""
    number = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
    if not abs(number) <= LARGEST:  # nor NaN
        return BadRow(
            f"{name} is no number", f"`{name}`{where} is {spell(value)}; expected a finite number."
        )
    return number
