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
from sciembed_train.corpus.validation import (
    is_unicode,
    missing_field,
    not_unicode,
    spell,
    wrong_type,
)

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
    """A record that can be used: a labelled text alone, or a query and what it is compared with.

    ``label`` is the number of its class, of each of its classes, or the target of a regression;
    None of triplets. ``pairs`` are the indices in ``texts`` of each triplet's positive and
    negative. ``unused`` candidates are in no triplet: without a text, repeated, or the query.
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
        """The classes that it counts for when a sample is drawn."""
        if isinstance(self.label, tuple):
            return self.label
        return (self.label,) if isinstance(self.label, int) else ()


class RecordReader:
    """Reads the records of a task."""

    def __init__(self, task: Task, building: TaskBuilding) -> None:
        self.task, self.building = task, building
        self.classes = {name: number for number, name in enumerate(task.labels)}

    def read(self, row: Mapping[str, Any], draws: Draws) -> Record | str:
        """The record, or why it gives no example; raises `BadRow`."""
        if self.task.labelled:
            return self._labelled(row)
        if self.task.type == "triplet":
            return self._triplet(row)
        return self._search(row, draws)

    def _labelled(self, row: Mapping[str, Any]) -> Record | str:
        text = self._text(row, "")
        name = self.task.labels_field
        if name not in row:
            raise missing_field(name, row)
        label = self._label(row[name], name)
        return Record((text,), label) if text else NO_TEXT

    def _label(self, value: Any, name: str) -> Label:
        if self.task.type == "regression":
            return _number(value, name)
        if not self.task.multi_label:
            return self._class(value, name)
        if not isinstance(value, list | tuple):
            raise wrong_type(name, value, "a list of labels")
        return tuple(sorted({self._class(label, name) for label in value}))

    def _class(self, value: Any, name: str) -> int:
        known = isinstance(value, str | int) and not isinstance(value, bool)
        number = self.classes.get(str(value).strip()) if known else None
        if number is None:
            raise BadRow(
                f"{name} is no label of the task",
                f"`{name}` is {spell(value)}, which is none of the {len(self.classes)} labels of "
                f"{self.task.labels_from}.",
            )
        return number

    def _triplet(self, row: Mapping[str, Any]) -> Record | str:
        texts = []
        for names in (("query",), ("pos", "positive"), ("neg", "negative")):
            name = next((name for name in names if name in row), None)
            if name is None:
                raise missing_field(names[0], row)
            texts.append(self._object_or_text(row[name], name))
        if not all(texts):
            return NO_TEXT
        return Record(tuple(texts), pairs=((1, 2),)) if len(set(texts)) == 3 else ONE_TEXT

    def _search(self, row: Mapping[str, Any], draws: Draws) -> Record | str:
        for name in ("query", "candidates"):
            if name not in row:
                raise missing_field(name, row)
        query = self._object_or_text(row["query"], "query")
        candidates = self._candidates(row["candidates"])
        positives = [text for text, score in candidates if score > 0]
        negatives = [text for text, score in candidates if score <= 0]
        if not query:
            return NO_TEXT
        if not positives:
            return NO_POSITIVE
        if not negatives:
            return NO_NEGATIVE
        return self._search_triplets(query, positives, negatives, draws)

    def _candidates(self, value: Any) -> list[tuple[Text, float]]:
        """Text and score of each candidate; a text may be empty."""
        if not isinstance(value, list | tuple):
            raise wrong_type("candidates", value, "a list of objects with fields")
        name, candidates = self.task.labels_field, []
        for number, candidate in enumerate(value, 1):
            where = f" of candidate {number}"
            if not isinstance(candidate, Mapping):
                message = (
                    f"candidate {number} is {spell(candidate)}; expected an object with fields."
                )
                raise BadRow("a candidate has a wrong type", message)
            if name not in candidate:
                raise missing_field(name, candidate, where)
            raw_score = candidate[name]
            raw_score = int(raw_score) if isinstance(raw_score, bool) else raw_score
            score = _number(raw_score, name, where)
            candidates.append((self._text(candidate, where), score))
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

    def _object_or_text(self, value: Any, name: str) -> Text:
        """A text that is an object with fields, or plain."""
        if isinstance(value, str):
            if not is_unicode(value):
                raise not_unicode(name)
            return _not_empty([value])
        if not isinstance(value, Mapping):
            raise wrong_type(name, value, "text, or an object with fields")
        return self._text(value, f" of `{name}`")

    def _text(self, row: Mapping[str, Any], where: str) -> Text:
        return read_text(row, self.task.fields, where)


def read_text(row: Mapping[str, Any], fields: Sequence[str], where: str = "") -> Text:
    """The named fields of a text that are not empty, in their order.

    ``where`` names the object of the fields in messages: `` of candidate 3``.

    Raises:
        BadRow: a field is missing or has a wrong type.
    """
    values = []
    for name in fields:
        if name not in row:
            if name in MAY_LACK:
                continue
            raise missing_field(name, row, where)
        value = _field(row[name])
        if value is None:
            raise wrong_type(name, row[name], "text, a number or null", where)
        if not is_unicode(value):
            raise not_unicode(name)
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


def _number(value: Any, name: str, where: str = "") -> float:
    """A finite number, also one that a table holds as text."""
    number = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
    if not abs(number) <= LARGEST:  # nor NaN
        raise BadRow(
            f"{name} is no number", f"`{name}`{where} is {spell(value)}; expected a finite number."
        )
    return number
