"""Labels of papers: classes, several labels at once, numbers.

Shapes: ``N`` labelled papers, ``C`` labels.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.validation import spell
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.scirepeval.scirepeval_files import Rows, part

_INDICATORS = re.compile(r"\[[\s,01]*\]")  # as a list is written, or as numpy writes one


@dataclass
class Labels:
    """Papers and their labels, in the order of the file; a paper may come twice.

    ``values`` are class numbers ``[N]``, 0 and 1 ``[N, C]``, or numbers ``[N]``.
    """

    ids: list[str]
    values: Any


@dataclass
class Labelled:
    """The training and test papers of a task, and its classes in the order of their numbers."""

    train: Labels
    test: Labels
    classes: list[str] = field(default_factory=list)


def read_labels(source: str, kind: str, multi_label: bool) -> Labelled:
    """The labels of a classification or regression: ``paper_id`` and ``label``.

    ``source`` is a folder with ``train`` and ``test`` of any known ending, or a dataset; several
    labels are lists, of 0 and 1 or of names.

    Raises:
        UserError: there is no such file, or a label cannot be read.
    """
    read = _number if kind == "regression" else _labels if multi_label else _class
    parts = []
    for split in ("train", "test"):
        rows = Rows(part(source, split), "labels")
        ids, values = [], []
        for at, row in rows:
            ids.append(rows.name(at, row, "paper_id", "doc_id"))
            value = read(row.get("label"))
            if isinstance(value, BadRow):
                rows.refuse(at, value)
            values.append(value)
        if not ids:
            raise UserError(f"{rows.table.source} holds no labelled paper.")
        parts.append((ids, values))
    return _numbered(source, parts, kind, multi_label)


def _class(value: Any) -> str | BadRow:
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, int):
        return str(int(value))
    return BadRow("label", f"`label` is {spell(value)}; expected text or an integer.")


def _labels(value: Any) -> list[int] | list[str] | BadRow:
    original = value
    if isinstance(value, str):
        if _INDICATORS.fullmatch(value.strip()):
            return [int(digit) for digit in re.findall("[01]", value)]
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if isinstance(value, list | tuple):
        if all(isinstance(one, str) for one in value):
            return list(value)
        if all(isinstance(one, int) and one in (0, 1) for one in value):
            return [int(one) for one in value]
    expected = "expected a list of 0 and 1, one a label, or of names of labels."
    return BadRow("label", f"`label` is {spell(original)}; {expected}")


def _number(value: Any) -> float | BadRow:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isfinite(number):
        return number
    return BadRow("label", f"`label` is {spell(value)}; expected a finite number.")


def _numbered(source: str, parts: list[Any], kind: str, multi_label: bool) -> Labelled:
    if kind == "regression":
        train, test = (Labels(ids, np.array(values, np.float64)) for ids, values in parts)
        return Labelled(train, test)
    if not multi_label:
        names = sorted({name for _, values in parts for name in values}, key=_order)
        number = {name: i for i, name in enumerate(names)}
        train, test = (Labels(i, np.array([number[v] for v in values])) for i, values in parts)
        return Labelled(train, test, names)
    every = [one for _, values in parts for one in values]
    if any(isinstance(name, str) for one in every for name in one):
        names = sorted({name for one in every for name in one})
        tables = [[[int(name in one) for name in names] for one in values] for _, values in parts]
    else:
        names = [str(i) for i in range(len(every[0]))]
        tables = [values for _, values in parts]
    if {len(one) for table in tables for one in table} != {len(names)} or not names:
        raise UserError(f"{source}: every list of labels must have as many entries as the first.")
    train, test = (
        Labels(ids, np.array(table, np.int64))
        for (ids, _), table in zip(parts, tables, strict=True)
    )
    return Labelled(train, test, names)


def _order(name: str) -> tuple[int, int | str]:
    return (0, int(name)) if re.fullmatch(r"-?[0-9]+", name) else (1, name)
