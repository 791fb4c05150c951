"""Whether the files of a corpus or of a run are as they were written."""

from __future__ import annotations

from pathlib import Path

from sciembed_train.corpus.store.checksums import NAME, damaged_files
from sciembed_train.errors import UserError
from sciembed_train.export.checkpoint_file import damaged_entry
from sciembed_train.progress import Progress

AGAIN = "Remove each of these folders, and make it again with the command that made it."


def verify(path: Path, progress: Progress) -> str:
    """Compare every file with its checksum; a line that says how many there were.

    Args:
        path: a corpus, a run, or a checkpoint.
        progress: where it is reported.

    Raises:
        UserError: a file is damaged or missing, or there is nothing with checksums.
    """
    if path.is_dir() and (path / NAME).is_file():
        with progress.stage("comparing", unit="bytes") as stage:
            compared, lines = damaged_files(path, stage.advance)
        advice = AGAIN
    else:
        files = sorted(path.glob("*.ckpt")) if path.is_dir() else [path]
        if not files or not files[0].is_file():
            raise UserError(
                f"{path} is no corpus, run or checkpoint that was written with checksums: it has "
                f"neither {NAME} nor a .ckpt file."
            )
        entries = {file: damaged_entry(file) for file in files}
        lines = [
            f"{file}: {entry} does not fit its checksum" for file, entry in entries.items() if entry
        ]
        compared, advice = (
            len(files),
            _advice([file for file, entry in entries.items() if not entry]),
        )
    if lines:
        raise UserError(
            "\n".join([f"{len(lines):,} of {compared:,} files are damaged.", *lines, advice])
        )
    return f"{path}: {compared:,} files are as they were written."


def _advice(whole: list[Path]) -> str:
    if not whole:
        return "Copy the files again, or train again."
    return f"Use {' or '.join(map(str, whole))}, or copy the damaged ones again."
