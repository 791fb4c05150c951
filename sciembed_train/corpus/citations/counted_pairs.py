"""Pairs of papers that users count as cited together.

Shapes: ``P`` papers, ``N`` pairs.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import Audit, BadRow, checked_rows, read_each
from sciembed_train.corpus.citations.citation_rows import REPEATED
from sciembed_train.corpus.mining.cocitation_settings import REASONS, UNKNOWN
from sciembed_train.corpus.papers import Papers
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.corpus.row_blocks import unpacked
from sciembed_train.corpus.unmatched_ids import UnmatchedIds
from sciembed_train.corpus.validation import missing_field, read_id, spell
from sciembed_train.progress import Stage

LARGEST_COUNT = 2**31 - 1


def read_cocitations(
    table: Table, papers: Papers, why: NDArray[np.int8], audit: Audit, stage: Stage
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Distinct pairs ``[N, 2]`` of papers a < b, ascending, and counts ``[N]``.

    A repeated pair, in either order, keeps its largest count, so that a file which lists every
    pair in both orders counts it once. Without ``count`` it is 1. ``why`` is the result of
    `usable_papers`.

    Raises:
        UserError: more rows are malformed than allowed.
    """
    keys, counts, places = array("q"), array("i"), array("q")
    n = len(papers.ids)
    unmatched = UnmatchedIds()
    checked = read_each(table.rows(), _read_pair)
    for place, (*ids, count) in checked_rows(checked, table.where, audit, stage, every=65536):
        a, b = map(papers.finder.find, ids)
        if a < 0 or b < 0:
            unmatched.add(*(i for i, k in zip(ids, (a, b), strict=True) if k < 0))
            audit.drop(UNKNOWN, table.where(place))
            continue
        reason = None
        if a == b:
            reason = "a paper with itself"
        elif why[a] or why[b]:
            reason = REASONS[why[a] or why[b]]
        elif not count:
            reason = "a count of 0"
        if reason is not None:
            audit.drop(reason, table.where(place))
            continue
        keys.append(min(a, b) * n + max(a, b))
        counts.append(count)
        places.append(place)
    if note := unmatched.note(table.source, audit.rows, "pairs", papers.ids):
        audit.notes.append(note)
    key = np.array(keys, np.int64)
    count = np.array(counts, np.int32)
    order = np.lexsort((-count, key))  # a pair's largest count first; of equals the first row
    key, count = key[order], count[order]
    repeated = np.flatnonzero(key[1:] == key[:-1]) + 1
    again = np.sort(order[repeated]).tolist()
    audit.drop_many(REPEATED, len(repeated), (table.where(places[row]) for row in again))
    key, count = np.delete(key, repeated), np.delete(count, repeated)
    audit.kept = len(key)
    return unpacked(key, n), count


def _read_pair(row: Mapping[str, Any]) -> tuple[str, str, int]:
    for name in ("paper_a", "paper_b"):
        if name not in row:
            raise missing_field(name, row)
    a, b = (read_id(row[name], name) for name in ("paper_a", "paper_b"))
    return a, b, _read_count(row.get("count"))


def _read_count(value: Any) -> int:
    """How often a pair is cited together; 1 for an empty field."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return 1
    number = value
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value):
        number = int(value)
    if isinstance(number, float) and number.is_integer():  # a table with gaps writes floats
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise BadRow(
            "count is no number of times",
            f"`count` is {spell(value)}; expected an integer of 0 or more, how often "
            "both are cited together.",
        )
    if number > LARGEST_COUNT:
        raise BadRow("count is too large", f"`count` is {value}; at most {LARGEST_COUNT:,}.")
    return number
