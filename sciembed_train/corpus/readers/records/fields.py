"""Fields of records that hold an object or a list; null and an absent field are empty."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sciembed_train.corpus.validation import wrong_type

_BETWEEN = re.compile(r"[;|]")
_NAME = ("display_name", "category", "name")


def object_of(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The object of a field.

    Raises:
        BadRow: it is something else.
    """
    value = row.get(name)
    if _is_null(value):
        return {}
    if isinstance(value, Mapping):
        return value
    raise wrong_type(name, value, "an object or null")


def list_of(row: Mapping[str, Any], name: str) -> Sequence[Any]:
    """The list of a field; a table's array is one.

    Raises:
        BadRow: it is something else.
    """
    value = row.get(name)
    if _is_null(value):
        return ()
    if isinstance(value, list | tuple):
        return value
    raise wrong_type(name, value, "a list or null")


def objects_of(row: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """The objects of a list; what else is in it is left out.

    Raises:
        BadRow: the field is no list.
    """
    return (item for item in list_of(row, name) if isinstance(item, Mapping))


def with_prefix(prefix: str, value: Any) -> list[str]:
    """An id with its prefix, or several of a list; nothing where there is none."""
    if isinstance(value, list | tuple):
        return [text for item in value for text in with_prefix(prefix, item)]
    if _is_null(value) or isinstance(value, bool) or not isinstance(value, str | int | float):
        return []
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return [f"{prefix}:{text}"] if text else []


def names_of(value: Any) -> list[str]:
    """The names of a field: of a text with semicolons or bars between them, or of a list of texts.

    An object of a list has its name as ``display_name``, ``category`` or ``name``. What is none of
    these is left out: such fields are only counted.
    """
    if isinstance(value, str):
        return [name for part in _BETWEEN.split(value) if (name := part.strip())]
    if isinstance(value, Mapping):
        return next((names_of(value[key]) for key in _NAME if key in value), [])
    if isinstance(value, list | tuple):
        return list(dict.fromkeys(name for part in value for name in names_of(part)))
    return []


def one_line(text: Any) -> Any:
    """A text with single blanks between its words; other values unchanged."""
    return " ".join(text.split()) if isinstance(text, str) else text


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)
