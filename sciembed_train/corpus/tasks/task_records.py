"""One record of a task as texts, and what is to be told of them.

A text is the list of its fields that are not empty, in the order of the task's ``fields``: two
records with the same fields are the same text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.tasks.task_types import Task, TaskBuilding
from sciembed_train.corpus.validation import is_unicode, not_unicode, spell

MAY_LACK = ("abstract",)  # as in a file of papers; every other field is there or the row is bad
LARGEST = 3.4e38  # of the numbers that 32 bits hold
NO_TEXT = "no text: the fields are empty"
NO_POSITIVE = "no candidate with a score above 0"
NO_NEGATIVE = "no candidate without a score"
ONE_TEXT = "the positive or the negative is the query itself, or they are one text"

Text = tuple[str, ...]
Label = int | float | tuple[int, ...] | None


class Draws(Protocol):
    """What is asked of a generator of random numbers."""

    def permutation(self, n: int) -> Any:
        """The numbers below ``n`` in a random order."""
        ...


@dataclass(frozen=True)
class Record:
    """A record that can be used.

    Args:
        texts: a labelled text alone, or the query and the texts it is compared with.
        label: number of its class, of each of its classes, or the number to be told; None of
            triplets.
        pairs: places in ``texts`` of each triplet's positive and negative; the query is the first.
        left_out: candidates that are in no triplet because they have no text.
    """

    texts: tuple[Text, ...]
    label: Label = None
    pairs: tuple[tuple[int, int], ...] = ()
    left_out: int = 0

    @property
    def examples(self) -> int:
        """How many examples the record gives."""
        return len(self.pairs) or 1

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes it stands for when a sample is drawn."""
        if isinstance(self.label, tuple):
            return self.label
        return (self.label,) if isinstance(self.label, int) else ()


class RecordReader:
    """Reads the records of a task.

    Args:
        task: what it says of them.
        building: how searches become triplets.
    """

    def __init__(self, task: Task, building: TaskBuilding) -> None:
        self.task, self.building = task, building
        self.classes = {name: number for number, name in enumerate(task.labels)}

    def read(self, row: Mapping[str, Any], draws: Draws) -> Record | BadRow | str:
        """The record, what is wrong with it, or why it gives no example.

        Args:
            row: its fields.
            draws: of this record alone.
        """
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
            return _missing(name, row, "")
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
        found = set()
        for one in value:
            number = self._class(one, name)
            if isinstance(number, BadRow):
                return number
            found.add(number)
        return tuple(sorted(found))

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
                return _missing(names[0], row, "")
            text = self._whole(row[name], name)
            if isinstance(text, BadRow):
                return text
            texts.append(text)
        if not all(texts):
            return NO_TEXT
        return Record(tuple(texts), pairs=((1, 2),)) if len(set(texts)) == 3 else ONE_TEXT

    def _search(self, row: Mapping[str, Any], draws: Draws) -> Record | BadRow | str:
        for name in ("query", "candidates"):
            if name not in row:
                return _missing(name, row, "")
        query = self._whole(row["query"], "query")
        if isinstance(query, BadRow):
            return query
        found = self._candidates(row["candidates"])
        if isinstance(found, BadRow):
            return found
        positives = [text for text, score in found if score > 0]
        negatives = [text for text, score in found if score <= 0]
        if not query:
            return NO_TEXT
        if not positives:
            return NO_POSITIVE
        if not negatives:
            return NO_NEGATIVE
        return self._compared(query, positives, negatives, draws)

    def _candidates(self, value: Any) -> list[tuple[Text, float]] | BadRow:
        """Text and score of each candidate; a text may be empty."""
        if not isinstance(value, list | tuple):
            told = f"`candidates` is {spell(value)}; expected a list of objects with fields."
            return BadRow("candidates has a wrong type", told)
        name, found = self.task.labels_field, []
        for number, one in enumerate(value, 1):
            where = f" of candidate {number}"
            if not isinstance(one, Mapping):
                told = f"candidate {number} is {spell(one)}; expected an object with fields."
                return BadRow("a candidate has a wrong type", told)
            if name not in one:
                return _missing(name, one, where)
            given = one[name]
            score = _number(int(given) if isinstance(given, bool) else given, name, where)
            if isinstance(score, BadRow):
                return score
            text = self._text(one, where)
            if isinstance(text, BadRow):
                return text
            found.append((text, score))
        return found

    def _compared(
        self, query: Text, positives: list[Text], negatives: list[Text], draws: Draws
    ) -> Record | str:
        """The search's triplets: as many as negatives, at most ``per_query``; positives cycle."""
        given = len(positives) + len(negatives)
        # A text may be a candidate twice; what is once chosen is no negative.
        positives = _distinct(positives, {query})
        negatives = _distinct(negatives, {query, *positives})
        left_out = given - len(positives) - len(negatives)
        if not positives or not negatives:
            return ONE_TEXT if left_out == given else NO_POSITIVE if not positives else NO_NEGATIVE
        count = min(self.building.per_query, len(negatives))
        if self.building.negatives == "drawn":
            positives = [positives[i] for i in draws.permutation(len(positives))]
            negatives = [negatives[i] for i in draws.permutation(len(negatives))][:count]
        else:
            negatives = negatives[-count:]
        positives = positives[:count]
        pairs = [(1 + i % len(positives), 1 + len(positives) + i) for i in range(count)]
        return Record((query, *positives, *negatives), None, tuple(pairs), left_out)

    def _whole(self, value: Any, name: str) -> Text | BadRow:
        """A text given as an object with fields, or as it stands."""
        if isinstance(value, str):
            return not_unicode(name) if not is_unicode(value) else _kept([value])
        if not isinstance(value, Mapping):
            told = f"`{name}` is {spell(value)}; expected text, or an object with fields."
            return BadRow(f"{name} has a wrong type", told)
        return self._text(value, f" of `{name}`")

    def _text(self, row: Mapping[str, Any], where: str) -> Text | BadRow:
        return read_text(row, self.task.fields, where)


def read_text(row: Mapping[str, Any], fields: Sequence[str], where: str = "") -> Text | BadRow:
    """The named fields of a text that are not empty, in their order.

    Args:
        row: fields by name.
        fields: the names.
        where: whose fields they are, for messages: `` of candidate 3``.
    """
    found = []
    for name in fields:
        if name not in row:
            if name in MAY_LACK:
                continue
            return _missing(name, row, where)
        value = _field(row[name])
        if value is None:
            told = f"`{name}`{where} is {spell(row[name])}; expected text, a number or null."
            return BadRow(f"{name} has a wrong type", told)
        if not is_unicode(value):
            return not_unicode(name)
        found.append(value)
    return _kept(found)


def _field(value: Any) -> str | None:
    """A field as text, None where it is none; 1964.0 is a year that a table has made a float."""
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


def _kept(values: Sequence[str]) -> Text:
    return tuple(text for value in values if (text := value.strip()))


def _distinct(texts: Sequence[Text], gone: set[Text]) -> list[Text]:
    """The texts that are not empty and not gone, each once, in their order."""
    return [text for text in dict.fromkeys(texts) if text and text not in gone]


def _missing(name: str, row: Mapping[str, Any], where: str) -> BadRow:
    fields = ", ".join(map(str, row))[:200] or "none"
    return BadRow(f"there is no {name}", f"there is no `{name}`{where}; the fields are {fields}.")


def _number(value: Any, name: str, where: str = "") -> float | BadRow:
    """A finite number, also where a table has written it as text."""
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
