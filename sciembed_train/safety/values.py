"""What the values of a foreign configuration may be, so that none makes an absurd model.

A check takes a value and returns what was expected in its place, or None where the value passes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

Check = Callable[[Any], str | None]

_WORD = re.compile(r"[\w.+/ -]{0,200}")


def whole(low: int, high: int) -> Check:
    """A whole number from ``low`` to ``high``."""

    def check(value: Any) -> str | None:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return None
        return f"a whole number from {low:,} to {high:,}"

    return check


def number(low: float, high: float) -> Check:
    """A number from ``low`` to ``high``."""

    def check(value: Any) -> str | None:
        real = isinstance(value, int | float) and not isinstance(value, bool)
        if real and math.isfinite(value) and low <= value <= high:
            return None
        return f"a number from {low:g} to {high:g}"

    return check


def flag(value: Any) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else "true or false"


def word(value: Any) -> str | None:
    """A name: it holds nothing that a path out of a folder or an address needs."""
    if isinstance(value, str) and _WORD.fullmatch(value) and ".." not in value:
        return None
    return "a name"


def text(value: Any) -> str | None:
    """A text of ordinary length."""
    return None if isinstance(value, str) and len(value) <= 10_000 else "a text"


def one_of(*names: str) -> Check:
    """One of some names."""

    def check(value: Any) -> str | None:
        return None if value in names else f"one of {', '.join(names)}"

    return check


def optional(check: Check) -> Check:
    """What passes the check, or null."""

    def check_optional(value: Any) -> str | None:
        expected = None if value is None else check(value)
        return expected and f"{expected}, or null"

    return check_optional


def several(check: Check, most: int = 1000) -> Check:
    """A list of what passes the check, or one such value without a list."""

    def check_several(value: Any) -> str | None:
        values = value if isinstance(value, list | tuple) else [value]
        expected = None if len(values) <= most else f"at most {most:,} values"
        return expected or next((e for e in map(check, values) if e), None)

    return check_several


def table(check: Check) -> Check:
    """An object of names and what passes the check, or of names and such objects."""

    def check_table(value: Any) -> str | None:
        if not isinstance(value, dict) or len(value) > 100:
            return "an object"
        for key, inner in value.items():
            expected = word(key) or (
                check_table(inner) if isinstance(inner, dict) else check(inner)
            )
            if expected:
                return f"{expected} as `{key}`"
        return None

    return check_table


def entries(value: Any, at: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every key of nested objects with its path and value."""
    stack = [(at, value)]
    while stack:
        path, item = stack.pop()
        if isinstance(item, dict):
            for key, inner in item.items():
                yield f"{path}{key}", str(key), inner
                stack.append((f"{path}{key}.", inner))
        elif isinstance(item, list):
            stack.extend((f"{path}{i}.", inner) for i, inner in enumerate(item))
