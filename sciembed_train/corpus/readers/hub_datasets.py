"""Datasets of the ``datasets`` library: saved to disk, or on the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sciembed_train.corpus.readers.files import missing_package
from sciembed_train.errors import UserError


def is_saved(path: Path) -> bool:
    """Whether a folder was made by ``Dataset.save_to_disk``."""
    return any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise missing_package("datasets", "datasets of the datasets library") from error
    return datasets


def load_saved(path: Path) -> list[Any]:
    """The datasets of such a folder; a damaged one is a `UserError`."""
    library = _library()
    try:
        loaded = library.load_from_disk(str(path))
    except Exception as error:  # the library raises many kinds for a damaged folder
        raise UserError(f"{path} could not be loaded as a dataset: {error}") from error
    return list(loaded.values()) if isinstance(loaded, dict) else [loaded]


def load_hub(name: str, kind: str) -> list[Any]:
    """The datasets ``owner/name:config@split`` of the hub; a `UserError` if loading fails."""
    try:
        library = _library()
    except UserError as error:
        raise UserError(
            f"{name}: there is no such file or folder ({kind}). "
            f"If it is a dataset on the hub: {error}"
        ) from error
    base, _, split = name.partition("@")
    repository, _, config = base.partition(":")
    try:
        loaded = library.load_dataset(repository, config or None, split=split or None)
    except Exception as error:  # network, unknown name, config or split: many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{name}: there is no such file or folder ({kind}), and no dataset of that name could "
            f"be loaded: {reason}"
        ) from error
    return list(loaded.values()) if isinstance(loaded, dict) else [loaded]


def fingerprint(parts: Sequence[Any]) -> str:
    """SHA-256 of the library's fingerprints of the datasets."""
    text = " ".join(part._fingerprint for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Stream:
    """A split of a dataset that is read as a stream: the library's iterable, and its SHA-256."""

    name: str
    dataset: Any
    fingerprint: str

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row; a `UserError` if the network goes or a file is damaged."""
        rows = iter(self.dataset)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:  # network and every format's own kinds
                raise UserError(f"{self.name} could not be read on: {_reason(error)}.") from error
            yield row


def open_streams(name: str, config: str = "") -> dict[str, Stream]:
    """The splits of a dataset by their names, to be streamed: nothing is downloaded as a whole.

    Args:
        name: a folder of ``Dataset.save_to_disk`` or of files that the library knows how to read,
            or a name on the hub.
        config: of the dataset; empty for its only one.

    Raises:
        UserError: there is no such dataset, or it could not be loaded.
    """
    library = _library()
    if is_saved(Path(name)):
        loaded = library.load_from_disk(name)
        parts = loaded if isinstance(loaded, dict) else {"train": loaded}
        return {split: Stream(name, part, fingerprint([part])) for split, part in parts.items()}
    try:
        builder = library.load_dataset_builder(name, config or None)
        parts = builder.as_streaming_dataset()
    except Exception as error:  # network, unknown name or config: many kinds
        title = f"{name} (config {config})" if config else name
        raise UserError(
            f"{title}: no dataset of that name could be opened: {_reason(error)}. Give a folder "
            "that holds it, or files of your own."
        ) from error
    files = builder.config.data_files or {}
    streams = {}
    for split, part in parts.items():
        # The revision of each file on the hub, or when it was last written.
        versions = getattr(files.get(split), "origin_metadata", None)
        text = f"{builder.hash} {builder.config_id} {split} {versions}"
        streams[split] = Stream(name, part, hashlib.sha256(text.encode()).hexdigest())
    return streams


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
