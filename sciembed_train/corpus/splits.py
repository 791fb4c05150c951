"""Which papers and documents are held out: by lists of ids, or by a hash of the id.

Shapes: ``P`` papers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.files import read_lines
from sciembed_train.corpus.row_blocks import blocks
from sciembed_train.corpus.store.corpus_files import SPLITS, Split
from sciembed_train.errors import UserError, why_no_file


def assign_splits(
    ids: Sequence[str],
    seed: int,
    dev_share: float,
    test_share: float,
    lists: Mapping[Split, set[str]] | None = None,
    first: NDArray[np.integer] | None = None,
) -> NDArray[np.int8]:
    """The split of every paper as a query, ``[P]``: 0 for train, 1 for dev, 2 for test.

    It is a hash of the id and the seed, so it depends on no other paper. A split with a list has
    the ids of the list and no others, in place of its share.

    Papers of the same text are in the same split: the latest whose list names any of them, else
    that of the first one's id.

    Args:
        ids: of the papers.
        seed: of the hash.
        dev_share: of the papers, where dev has no list.
        test_share: of the papers, where test has no list.
        lists: ids by split.
        first: the first paper of each one's text ``[P]``; None where all texts differ.
    """
    lists = lists or {}
    split = np.zeros(len(ids), np.int8)
    test = 0.0 if "test" in lists else test_share
    dev = 0.0 if "dev" in lists else dev_share
    salt = f"{seed} ".encode()
    texts = iter(ids)
    for block in blocks(len(ids) if test or dev else 0):
        digests = (
            hashlib.blake2b(salt + paper_id.encode(), digest_size=8).digest()
            for paper_id in islice(texts, block.stop - block.start)
        )
        share = np.frombuffer(b"".join(digests), ">u8").astype(np.float64) / 2**64
        split[block] = np.where(share < test, 2, share < test + dev)
    first_paper = np.arange(len(ids)) if first is None else first
    for number, name in enumerate(SPLITS):
        if name in lists:
            split[first_paper[[i for i, paper_id in enumerate(ids) if paper_id in lists[name]]]] = (
                number
            )
    return split[first_paper]


def read_id_list(path: Path) -> set[str]:
    """The paper ids of a text file, one a line.

    Raises:
        UserError: the file cannot be read or holds a line that is not UTF-8.
    """
    if not path.is_file():
        raise UserError(f"{path}: {why_no_file(path)} (a list of paper ids, one a line).")
    ids = set()
    for line, text in read_lines(path):
        if isinstance(text, BadRow):
            raise UserError(f"{path}:{line}: {text.message}")
        ids.add(text.strip())
    return ids


def check_disjoint(lists: Mapping[Split, set[str]]) -> None:
    """Raise `UserError` where an id is in the lists of two splits."""
    for a, b in combinations(lists, 2):
        shared = sorted(lists[a] & lists[b])
        if shared:
            raise UserError(
                f"{len(shared):,} ids are both {a} and {b} queries, the first is {shared[0]!r}. "
                "A query belongs to one split."
            )


def unknown_ids_error(path: Path, ids: set[str], kinds: Sequence[str]) -> UserError:
    """The error for a list of which no id is known; ``kinds``: ``paper``, ``document`` or both."""
    return UserError(
        f"{path}: not one of its {len(ids):,} ids is the id of a {' or '.join(kinds)} (the first "
        f"is {min(ids)!r}). One `paper_id` a line is expected, no header."
    )
