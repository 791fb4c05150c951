"""Values that no setting may have: unusable numbers, and texts that cannot be names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

# The limit of numpy, torch and the files that settings are written to.
LARGEST_INTEGER = 2**63 - 1
# Bytes of one part of a path: file systems allow 255, and files beside it have longer names that
# start with it. Then bytes of a whole path on Linux.
LONGEST_NAME, LONGEST_PATH = 200, 4095


def find_fault(value: Any) -> str | None:
    """What is wrong with a value, as ``got ...; expected ...``; None where nothing is.

    Texts in a mapping are not checked: they are not names.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        return f"got a number of {len(str(abs(value)))} digits; expected at most 18 digits"
    if isinstance(value, float) and not math.isfinite(value):
        return f"got {value}; expected a finite number"
    if isinstance(value, str):
        return _fault_of_text(value)
    if isinstance(value, list | tuple):
        return next((fault for item in value if (fault := find_fault(item))), None)
    return None


def faults(values: Mapping[str, Any], empty: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The keys whose values no setting may have, each with what is wrong.

    Args:
        values: by whole keys.
        empty: the defaults; a text may be empty where its default is.
    """
    for key, value in values.items():
        if value == "" and key in empty and empty[key] != "":
            yield key, "got an empty text; give a value, or leave the option out"
        elif isinstance(value, list) and "" in value:
            yield key, "got an empty text in a list; leave it out"
        elif fault := find_fault(value):
            yield key, fault


def _fault_of_text(text: str) -> str | None:
    unprintable = next((letter for letter in text if not letter.isprintable()), None)
    if unprintable is not None:
        return f"got {shown(text)}; expected a text without {_named(unprintable)}"
    longest = max(len(part.encode("utf-8")) for part in text.split("/"))
    if longest > LONGEST_NAME:
        return (
            f"got {shown(text)}, a name of {longest:,} bytes; expected at most {LONGEST_NAME}, as "
            "file systems allow"
        )
    if len(text.encode("utf-8")) > LONGEST_PATH:
        return f"got a path of {len(text):,} letters; expected at most {LONGEST_PATH:,}"
    return None


def shown(text: str, longest: int = 40) -> str:
    """A text in quotes on one line, cut where it is long."""
    return repr(text if len(text) <= longest else f"{text[:longest]}...")


def _named(letter: str) -> str:
    names = {"\n": "line ends", "\r": "line ends", "\t": "tabs", "\0": "zero bytes"}
    if "\ud800" <= letter <= "\udfff":
        return "bytes that are no UTF-8"
    return names.get(letter, f"the control character {letter!r}")
