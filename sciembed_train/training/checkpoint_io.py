"""Files of checkpoints: written beside their names, read back, renamed; and what a full disk means.

Lightning's own writer builds the whole file in memory, writes it to the temporary folder of the
machine and copies it from there: where that is another file system, a process that is killed, or
a disk that is full, leaves half a file under the checkpoint's name.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from sciembed_train.encoder.io.encoder_checkpoint import SCRATCH
from sciembed_train.errors import RunError
from sciembed_train.export.checkpoint_file import damaged_entry
from sciembed_train.full_disk import full_disk_message
from sciembed_train.training import lock_file, rank_records
from sciembed_train.whole_folder import sweep, sync_folder

PARTIAL = ".partial"  # the ending of a checkpoint that is being written
CHECKPOINTS = ("last.ckpt", "best.ckpt", "final.ckpt")


class RunCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its name, reads it back, and renames it.

    Whenever the process is killed or the disk is full, the checkpoint before is there, whole. The
    new one is on the disk (``fsync``) before it takes the name. Reading back compares the checksum
    (CRC-32) that torch wrote for each entry with the bytes in the file; they mostly come from the
    system's cache, so that a file which is cut short or holds other bytes than were written is
    found, and a fault of the medium is not.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write it; ``storage_options``, which are of other file systems, must be None.

        Raises:
            RunError: the disk is full, or the file is not what was written.
        """
        if storage_options is not None:
            raise TypeError("checkpoints are files of this machine and take no storage_options")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}{PARTIAL}")
        with refuse_full_disk(path.parent, path.name, checkpoint):
            try:
                with partial.open("wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())
                read_back(partial)
                partial.replace(path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
        sync_folder(path.parent)


def read_back(path: Path) -> None:
    """Compare every entry of a checkpoint's file with its checksum.

    Raises:
        RunError: the file is cut short, or an entry is not what was written.
    """
    bad = damaged_entry(path) if zipfile.is_zipfile(path) else "it is cut short"
    if bad is not None:
        raise RunError(
            f"{path} was written and reads back otherwise ({bad}): the disk or its connection is "
            f"at fault. {kept(path.parent)} Continue with --ckpt_path last once that is mended."
        )


@contextmanager
def refuse_full_disk(
    folder: Path, what: str = "", checkpoint: dict[str, Any] | None = None
) -> Iterator[None]:
    """Raise what a full disk causes as a RunError: what is needed, what is safe, how to go on.

    Args:
        folder: of the run.
        what: the file of it that is written, where one is.
        checkpoint: its content, of which the size is told.
    """
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        needed = None if checkpoint is None else tensor_bytes(checkpoint)
        safe = f"{kept(folder)} {_go_on(folder)}"
        message = full_disk_message(error, folder / what, safe, needed)
        if message is None:
            raise
        raise RunError(message) from error


def tensor_bytes(content: Any) -> int:
    """Bytes of the tensors in nested containers, each storage once."""
    storages: dict[int, int] = {}
    stack = [content]
    while stack:
        item = stack.pop()
        if isinstance(item, torch.Tensor):
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list | tuple):
            stack.extend(item)
    return sum(storages.values())


def sweep_run(folder: Path) -> None:
    """Remove what killed processes left in the folder of a run, whose lock this process holds."""
    if not folder.is_dir():
        return
    left = [
        *folder.glob(f"*.ckpt{PARTIAL}"),
        *folder.glob("metrics.partial"),
        *folder.glob(f"{lock_file.SCRATCH}*"),
    ]
    for path in left:
        path.unlink(missing_ok=True)
    for path in (*folder.glob(f"{SCRATCH}*"), folder / rank_records.FOLDER):
        shutil.rmtree(path, ignore_errors=True)
    sweep(folder / "export")


def kept(folder: Path) -> str:
    """Which checkpoints a run has, as a sentence."""
    there = [name for name in CHECKPOINTS if (folder / name).is_file()]
    if not there:
        return "No checkpoint was written before."
    return f"{' and '.join(there)} {'is as it was' if len(there) == 1 else 'are as they were'}."


def _go_on(folder: Path) -> str:
    if (folder / "last.ckpt").is_file():
        return "Make room and continue with --ckpt_path last."
    return "Make room, or give another folder with --root, and start again."
