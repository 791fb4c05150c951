"""One result of a check, and the results as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        about: its section: machine, package, safety, run, disk, or what ranks exchange.
        name: what was checked.
        state: ``ok``; ``note`` for information; ``no`` for something optional that would not
            run; ``bad`` for what must be repaired first.
        detail: the result and, where it is not ``ok``, what to do.
    """

    about: Literal["machine", "package", "safety", "run", "disk", "exchange"]
    name: str
    state: Literal["ok", "note", "no", "bad"]
    detail: str


def render(findings: Sequence[Finding]) -> str:
    """The findings as a table for people."""
    marks = {"ok": "ok ", "note": "i  ", "no": "-  ", "bad": "!! "}
    titles = {
        "machine": "This machine",
        "package": "Packages that training needs",
        "safety": "Safety",
        "run": "What would run",
        "disk": "Where runs go",
        "exchange": "What GPUs exchange",
    }
    lines: list[str] = []
    for about, title in titles.items():
        section = [f for f in findings if f.about == about]
        if not section:
            continue
        width = max((len(f.name) for f in section), default=0)
        lines += [title, *(f"  {marks[f.state]}{f.name:<{width}}  {f.detail}" for f in section), ""]
    bad = [f.name for f in findings if f.state == "bad"]
    lines.append(f"To repair first: {', '.join(bad)}." if bad else "Nothing stands in the way.")
    return "\n".join(lines)
