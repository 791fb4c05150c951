"""Hashes of the titles that an encoder was trained on, in a file of its folder.

`NAME` lies beside ``sciembed.json``: the `text.normalise.text_number` of each title as unsigned 64
bits, distinct and ascending, so that others can look up a title without being given all of them.

Shapes: ``N`` titles, ``K`` titles asked for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sciembed_train.errors import UserError

NAME = "training_titles.npy"

Titles = NDArray[np.uint64]


def title_numbers(*parts: NDArray[np.int64] | Titles) -> Titles:
    """The distinct numbers of titles ``[N]``, ascending, without 0, which stands for no title."""
    numbers = np.concatenate([np.empty(0, np.uint64), *(part.view(np.uint64) for part in parts)])
    distinct = np.unique(numbers)
    return distinct[distinct != 0]


def write_titles(folder: Path, titles: Titles) -> None:
    """Write them into a model's folder."""
    np.save(folder / NAME, titles.astype("<u8"))


def read_titles(folder: Path) -> Titles | None:
    """The titles of a model's folder; None where it has no such file.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        titles = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Copy it again.") from error
    good = isinstance(titles, np.ndarray) and titles.dtype == np.dtype("<u8") and titles.ndim == 1
    if not good or (titles[1:] <= titles[:-1]).any():
        raise UserError(
            f"{path}: is damaged; expected ascending unsigned numbers of 64 bits. Copy it again."
        )
    return titles


def trained_on(titles: Titles, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each title asked for, by its `text_number`, is among them ``[K]``; 0 never is."""
    if not len(titles):
        return np.zeros(len(numbers), np.bool_)
    unsigned = numbers.view(np.uint64)
    index = np.minimum(np.searchsorted(titles, unsigned), len(titles) - 1)
    return (titles[index] == unsigned) & (numbers != 0)
