"""Checkpoints of a run: finding them, reading them without running code, and their facts."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sciembed_train.encoder.io.training_titles import Titles
from sciembed_train.errors import UserError, why_no_file
from sciembed_train.safety.weights import load_pickled

# Holds the exported weights and the verdict of a run with a verdict or a projection.
FINAL = "final.ckpt"
# Checkpoints of training, the best before the last.
TRAINED = ("best.ckpt", "last.ckpt")
TITLES = "training_titles"  # in a checkpoint's record
# Entries of a checkpoint's record that a card takes unchanged.
_KEPT = ("transport", "texts", "verdict", "matryoshka_dims", "projection_learning")
# Facts of the training that a card lists beside the counts, not among them.
_HEADS = ("recipe", "seed", "base_model", "base_model_sha256", "texts")


def damaged_entry(path: Path) -> str | None:
    """The first entry of a checkpoint that does not fit its checksum (CRC-32); None if all do.

    torch writes the checksums and does not compare them when it loads. A file that is no zip file,
    such as one that is cut short, has none.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        file = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError):
        return None
    with file:
        try:
            return file.testzip()
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            return str(error) or type(error).__name__  # an EOFError has no message


def check_entries(path: Path) -> None:
    """Compare a checkpoint with its checksums, which reads it once.

    Raises:
        UserError: it is damaged.
    """
    entry = damaged_entry(path)
    if entry is not None:
        others = [n for n in (*TRAINED, FINAL) if n != path.name and (path.parent / n).is_file()]
        remedy = f"Use {path.parent / others[0]} in its place, or copy" if others else "Copy"
        raise UserError(
            f"{path}: is damaged: {entry} does not fit the checksum that was written with it. "
            f"{remedy} it again."
        )


def load_checkpoint(path: Path, own: bool = True) -> dict[str, Any]:
    """The content of a checkpoint, tensors and plain values only.

    Args:
        path: the file.
        own: whether a run of this project wrote it, with checksums; other programs may not.

    Raises:
        UserError: the file is unreadable, damaged, or holds anything else.
    """
    import errno

    cut_short = f"{path}: is cut short, or no checkpoint at all. Copy it again, or give another."

    try:
        if own:
            check_entries(path)
        content = load_pickled(
            path,
            "checkpoint",
            "Only files of tensors and plain values are loaded, such as `train fit` writes.",
        )
    except OSError as error:
        if error.errno == errno.EINVAL:  # torch seeks for the index at the end
            raise UserError(cut_short) from error
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except UserError:
        raise
    except (RuntimeError, EOFError, ValueError) as error:
        raise UserError(cut_short) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}; expected a checkpoint.")
    return content


def find_checkpoint(source: str | Path, names: Sequence[str] = (FINAL, *TRAINED)) -> Path:
    """The checkpoint file that ``source`` names: itself, or the first of ``names`` in its folder.

    Raises:
        UserError: there is none.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        why = why_no_file(path, "checkpoint") if path.exists() else "does not exist"
        raise UserError(f"{source}: {why}; give a .ckpt file or a run's folder.")
    for name in names:
        if (path / name).is_file():
            return path / name
    raise UserError(
        f"{source}: holds neither best.ckpt nor last.ckpt; give a .ckpt file or a run's folder, "
        "such as checkpoints/NAME."
    )


def titles_of(checkpoint: dict[str, Any]) -> Titles | None:
    """The titles that a checkpoint was trained on; None where it does not record them."""
    record = checkpoint.get("sciembed")
    titles = record.get(TITLES) if isinstance(record, dict) else None
    return None if titles is None else titles.numpy().view(np.uint64)


def card_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The record of a checkpoint's training, for `export_encoder`."""
    record = checkpoint.get("sciembed")
    record = record if isinstance(record, dict) else {}
    training = {"steps": checkpoint.get("global_step"), **dict(record.get("training") or {})}
    card: dict[str, Any] = {
        "method": record.get("method"),
        # Checkpoints without the entry were all trained for it.
        "similarity": record.get("similarity") or "euclidean",
        **{key: record[key] for key in _KEPT if record.get(key)},
    }
    if "training_documents" in training:
        card["texts"] = "any"
    card.update({key: training.pop(key) for key in _HEADS if key in training})
    # Not the checkpoint's own `epoch`: to Lightning the whole run is one pass of the loader.
    if training.get("steps_per_epoch"):
        training["epochs"] = round(training["steps"] / training["steps_per_epoch"], 2)
    return {**card, "training": training}
