"""How many papers are of which field of study, as their rows name them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

MOST = 10_000  # different names that are counted; a free text is no field
SHOWN = 50


class FieldCount:
    """Counts the fields of papers; a paper may be of several."""

    def __init__(self) -> None:
        self.papers: Counter[str] = Counter()
        self.without = 0

    def add(self, fields: Iterable[str]) -> None:
        """Count a paper."""
        has_field = False
        for name in fields:
            has_field = True
            if name in self.papers or len(self.papers) < MOST:
                self.papers[name] += 1
        self.without += not has_field

    def as_dict(self) -> dict[str, Any]:
        """The most frequent fields with their papers; empty where no paper names one."""
        if not self.papers:
            return {}
        ranked = sorted(self.papers.items(), key=lambda pair: (-pair[1], pair[0]))
        return {
            "papers": dict(ranked[:SHOWN]),
            "other fields": max(len(ranked) - SHOWN, 0),
            "papers without one": self.without,
        }
