"""Checkpoints of a run: finding them, reading them without running code, and their facts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError, why_no_file
from sciembed_train.safety.weights import load_pickled

# Of a run with a verdict: the weights that its export has, and the verdict.
FINAL = "final.ckpt"
# As a run trains them, the best before the last.
TRAINED = ("best.ckpt", "last.ckpt")
# Facts of the training that stand beside the counts, not among them.
_HEADS = ("recipe", "seed", "base_model", "base_model_sha256", "texts")


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, tensors and plain values only.

    Raises:
        UserError: the file is unreadable, damaged, or holds anything else.
    """
    import errno

    cut_short = f"{path}: is cut short, or no checkpoint at all. Copy it again, or give another."

    try:
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


def card_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The record of a checkpoint's training, for `export_encoder`."""
    record = checkpoint.get("sciembed")
    record = record if isinstance(record, dict) else {}
    training = {"steps": checkpoint.get("global_step"), **dict(record.get("training") or {})}
    card: dict[str, Any] = {
        "method": record.get("method"),
        # Checkpoints without the entry were all trained for it.
        "similarity": record.get("similarity") or "euclidean",
        **{key: record[key] for key in ("transport", "texts", "verdict") if record.get(key)},
    }
    if "training_documents" in training:
        card["texts"] = "any"
    card.update({key: training.pop(key) for key in _HEADS if key in training})
    # Not the checkpoint's own `epoch`: to Lightning the whole run is one pass of the loader.
    if training.get("steps_per_epoch"):
        training["epochs"] = round(training["steps"] / training["steps_per_epoch"], 2)
    return {**card, "training": training}
