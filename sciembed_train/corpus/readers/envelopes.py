"""Saved answers of web APIs: the records within the object that a service wraps around them.

- OpenAlex: ``{"meta": {...}, "results": [...]}``;
- Semantic Scholar: ``{"total": ..., "offset": ..., "data": [...]}``, ``{"recommendedPapers":
  [...]}``, and null for a paper that it does not know;
- Crossref: ``{"status": "ok", "message": {"items": [...]}}``, ``{"message": {a work}}``, and the
  files of its yearly dump, ``{"items": [...]}``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sciembed_train.corpus.audit import BadRow

# What may stand beside the list of records in an answer, by the list's key.
BESIDE: dict[str, frozenset[str]] = {
    "results": frozenset({"meta", "group_by"}),
    "data": frozenset({"total", "offset", "next", "token"}),
    "recommendedPapers": frozenset(),
    "items": frozenset({"facets", "total-results", "items-per-page", "query", "next-cursor"}),
}
MESSAGE = "message"  # of Crossref: what is in it is the answer
BESIDE_MESSAGE = frozenset({"status", "message-type", "message-version"})
_ERROR = frozenset({"error", "message", "code", "status", "statusCode", "success"})

UNKNOWN_PAPER = BadRow(
    "null in the place of a record", "the service knows no such paper.", ordinary=True
)


def may_begin(keys: Iterable[str]) -> bool:
    """Whether an object with these keys, the first ones it has, may be an answer."""
    keys = set(keys)
    return any(keys <= beside for beside in (*BESIDE.values(), BESIDE_MESSAGE))


def is_list_of_records(key: str, before: Iterable[str]) -> bool:
    """Whether the list with this key holds an answer's records, given the keys before it."""
    return key in BESIDE and BESIDE[key] >= set(before)


def is_message(key: str, value: Any, before: Iterable[str]) -> bool:
    """Whether a member, after those with the keys ``before``, is what Crossref answers."""
    return key == MESSAGE and isinstance(value, Mapping) and set(before) <= BESIDE_MESSAGE


def records_of(value: Any) -> list[Any] | None:
    """The records of an answer, None where a value is no answer.

    An answer that says that something went wrong is one `BadRow`.
    """
    if not isinstance(value, Mapping):
        return None
    for name, beside in BESIDE.items():
        if isinstance(value.get(name), list) and beside >= value.keys() - {name}:
            return value[name]
    message = value.get(MESSAGE)
    if isinstance(message, Mapping) and value.keys() - {MESSAGE} <= BESIDE_MESSAGE:
        inner = records_of(message)
        return [message] if inner is None else inner
    if value and value.keys() <= _ERROR and ("error" in value or isinstance(message, str)):
        return [_refused(value)]
    return None


def record(value: Any) -> Mapping[str, Any] | BadRow:
    """A member of an answer or of a list, as a row."""
    if isinstance(value, Mapping | BadRow):
        return value
    if value is None:
        return UNKNOWN_PAPER
    return BadRow("not an object", "this is not an object with fields.")


def _refused(answer: Mapping[str, Any]) -> BadRow:
    message = next(text for name in ("error", MESSAGE) if (text := answer.get(name)) is not None)
    return BadRow(
        "an error of the service",
        f"this is no paper but the service's answer that it had none: {str(message)[:200]!r}. "
        "Fetch it again.",
    )
