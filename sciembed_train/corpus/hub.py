"""Datasets of the ``datasets`` library: saved to disk, or on the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sciembed_train.corpus.files import needs
from sciembed_train.errors import UserError


def is_saved(path: Path) -> bool:
    """Whether a folder was made by ``Dataset.save_to_disk``."""
    return any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise needs("datasets", "datasets of the datasets library") from error
    return datasets


def load_saved(path: Path) -> list[Any]:
    """The datasets of such a folder.

    Raises:
        UserError: it is damaged.
    """
    library = _library()
    try:
        loaded = library.load_from_disk(str(path))
    except Exception as error:  # the library raises many kinds for a damaged folder
        raise UserError(f"{path} could not be loaded as a dataset: {error}") from error
    return list(loaded.values()) if isinstance(loaded, dict) else [loaded]


def load_hub(name: str, what: str) -> list[Any]:
    """The datasets ``owner/name:config@split`` of the hub.

    Raises:
        UserError: there is none, or it could not be had.
    """
    try:
        library = _library()
    except UserError as error:
        raise UserError(
            f"{name}: there is no such file or folder ({what}). "
            f"If it is a dataset on the hub: {error}"
        ) from error
    base, _, split = name.partition("@")
    repository, _, config = base.partition(":")
    try:
        loaded = library.load_dataset(repository, config or None, split=split or None)
    except Exception as error:  # network, unknown name, config or split: many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{name}: there is no such file or folder ({what}), and no dataset of that name could "
            f"be loaded: {reason}"
        ) from error
    return list(loaded.values()) if isinstance(loaded, dict) else [loaded]


def fingerprint(parts: Sequence[Any]) -> str:
    """SHA-256 of what the library knows the datasets by."""
    text = " ".join(part._fingerprint for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()
