"""What the processes that write a folder of shards agree on, and what is in it when it is whole.

``plan.json`` holds model, input, settings and the ranges of int8 from the start, ``manifest.json``
all of it and the counts once every shard is done.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciembed_train.corpus.shared_work import Lock
from sciembed_train.errors import UserError
from sciembed_train.inference.options import EmbedFileSettings, EmbedSettings
from sciembed_train.inference.output_file import write_json
from sciembed_train.inference.paper_file import CheckedRows, PaperFile
from sciembed_train.inference.vector_files import MANIFEST, PLAN
from sciembed_train.progress import Progress
from sciembed_train.text.truncation import Truncation

if TYPE_CHECKING:
    from sciembed_train.encoder.text_interface import TextInterface

VERSION = 2  # of a folder of shards
POLL = 0.2  # seconds between two looks at the lock of the plan


def model_facts(
    name: str | Path, encoder: TextInterface, settings: EmbedSettings
) -> dict[str, Any]:
    """A model's name, hash and similarity, and how its vectors are made.

    ``how`` is all that vectors depend on beside the weights, but for rounding.
    """
    from sciembed_train.encoder.io.model_metadata import read_metadata
    from sciembed_train.inference.embed_file import fingerprint
    from sciembed_train.inference.embedding import describe
    from sciembed_train.safety.find_model import find_folder, model_place

    how = describe(encoder)
    del how["device"]
    return {
        "model": {"name": str(name), "hash": fingerprint(encoder)},
        "similarity": read_metadata(find_folder(model_place(name))).similarity,
        "how": {**how, "precision": settings.precision, "format": settings.format},
    }


def plan_of(
    files: EmbedFileSettings,
    folder: Path,
    asked: Mapping[str, Any],
    calibrated: Callable[[PaperFile], dict[str, Any]],
    progress: Progress,
) -> tuple[PaperFile, dict[str, Any]]:
    """The papers and the plan of a folder; the first process checks the input and writes it.

    So all shards have the ranges of int8 that the first process has ``calibrated``, and a restart
    has them again.

    Raises:
        UserError: the folder has a plan of something else, or files of another kind; or the input
            holds no paper.
    """
    lock = Lock(folder / ".plan.lock", needed_by="--to FOLDER")
    while not lock.take():
        time.sleep(POLL)
    try:
        plan = read_record(folder / PLAN)
        if plan is None:
            strange = [path.name for path in folder.iterdir() if not _is_ours(path.name)]
            if strange:
                raise UserError(
                    f"--to {folder} holds other files, such as {min(strange)}. Give a new folder."
                )
            _remove(folder)
        else:
            known = CheckedRows(**plan["checked"])
            papers = PaperFile(files.input, files.max_bad_rows, checked=known)
            unlike = _unlike(plan, {**asked, "input": papers.checksums()})
            if not unlike and papers.malformed <= files.max_bad_rows:
                return papers, plan
            if unlike and not files.restart:
                raise UserError(
                    f"{folder} holds shards of {' and '.join(unlike)}. Give another --to, or "
                    "discard them with --restart."
                )
        with progress.stage("checking", unit="papers") as stage:
            papers = PaperFile(files.input, files.max_bad_rows)
            stage.reach(len(papers))
        if not len(papers):
            raise UserError(f"{files.input} holds no paper.")
        _remove(folder)
        checked = asdict(papers.checked)
        plan = {
            **asked,
            "input": papers.checksums(),
            "papers": len(papers),
            "checked": checked,
            "quantisation": calibrated(papers),
        }
        write_json(folder / PLAN, plan)
        return papers, plan
    finally:
        lock.give_up()


def _unlike(plan: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """The differences of a plan from what is asked for, in words."""
    model = plan["model"]["hash"] != asked["model"]["hash"]
    pairs = {"input": "another input", "how": "other settings", "version": "another version"}
    unlike = ["another model"] if model else []
    unlike += [text for key, text in pairs.items() if plan[key] != asked[key]]
    if plan["shard_size"] != asked["shard_size"]:
        unlike.append(f"another size (--shard_size {plan['shard_size']})")
    if plan.get("dtype") != asked["dtype"]:
        unlike.append(f"another dtype (--dtype {plan.get('dtype')})")
    return unlike


def write_manifest(
    folder: Path, plan: Mapping[str, Any], parts: Sequence[Mapping[str, Any]], counted: Truncation
) -> None:
    """Write what a whole folder holds, unless another process has done so.

    Raises:
        UserError: a shard is of another model.
    """
    from sciembed_train import __version__

    checked = plan["checked"]
    manifest = {
        **{key: value for key, value in plan.items() if key != "checked"},
        "dim": plan["how"]["dim"],
        "without_text": checked["without_text"],
        "malformed_left_out": checked["malformed"],
        "truncation": asdict(counted),
        "program": f"sciembed_train {__version__}",
        "shards": list(parts),
    }
    wrong = [part["part"] for part in parts if part["model"] != plan["model"]["hash"]]
    if wrong:
        raise UserError(f"{folder / wrong[0]}.npy is of another model. Remove it and run again.")
    if read_record(folder / MANIFEST) != manifest:
        write_json(folder / MANIFEST, manifest)


def _is_ours(name: str) -> bool:
    """Whether a file of a folder may have been written here."""
    return name.startswith((".part-", ".plan", ".manifest", "part-")) or name in (PLAN, MANIFEST)


def _remove(folder: Path) -> None:
    """Remove the shards of another plan; first what says that they are whole."""
    for name in (MANIFEST, PLAN):
        (folder / name).unlink(missing_ok=True)
    for pattern in ("part-*.json", "part-*.npy", "part-*.ids.txt"):
        for path in sorted(folder.glob(pattern)):
            path.unlink(missing_ok=True)


def read_record(path: Path) -> dict[str, Any] | None:
    """What a file of the folder says; None where there is none."""
    with suppress(FileNotFoundError):
        return json.loads(path.read_text(encoding="utf-8"))
    return None
