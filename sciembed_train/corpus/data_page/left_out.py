"""Everything that ``report.json`` counts as left out, in one list, most frequent reason first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class LeftOut:
    """Rows, papers or citations that were left out for one reason.

    Args:
        part: of the report, such as ``citations``.
        reason: in words.
        count: how many.
        examples: places of the first of them, or their ids.
        rows: whether they are rows of the input of that name.
        malformed: whether they could not be read, which ``max_bad_rows`` allowed.
    """

    part: str
    reason: str
    count: int
    examples: list[str]
    rows: bool = False
    malformed: bool = False

    @property
    def line(self) -> str:
        """Count, part and reason."""
        if not self.rows:
            return f"{self.count:,} ({self.part}): {self.reason}"
        kind = "malformed " if self.malformed else ""
        return f"{self.count:,} {kind}rows of {self.part}: {self.reason}"


def left_out(report: Mapping[str, Any]) -> list[LeftOut]:
    """Every reason of a report with a count above 0."""
    reasons = [each for name, part in report.items() for each in _of(name, part) if each.count]
    return sorted(reasons, key=lambda each: -each.count)


def notes(report: Mapping[str, Any]) -> list[str]:
    """The notes of a report, except those on how its inputs were read."""
    return [
        note
        for part in report.values()
        for note in part.get("notes", ())
        if note not in part.get("read", ())
    ]


def _of(name: str, part: Mapping[str, Any]) -> Iterator[LeftOut]:
    for reason, value in part.items():
        if not isinstance(value, Mapping):
            continue
        if "count" in value and "examples" in value:
            yield LeftOut(name, reason, value["count"], value["examples"])
            continue
        for each in _of(name, value):
            yield replace(each, rows="rows" in part, malformed=reason == "malformed")
