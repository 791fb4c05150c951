"""A small file system in memory, and a limit of files, for what happens on a full disk."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def on_small_disk(
    folder: Path, size: int, *words: str, then: str = "true"
) -> subprocess.CompletedProcess[str]:
    """Run Python where ``folder`` is a file system of so many bytes, which is gone afterwards.

    ``then`` is run by the shell while the file system is still there. The test is skipped where
    this machine lets no process have file systems of its own.
    """
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = f"mount -t tmpfs -o size={size} none {folder}"
    if shutil.which("unshare") is None:
        pytest.skip("there is no `unshare` here, so no small file system can be mounted")
    tried = subprocess.run([*own, "sh", "-c", mount], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {tried.stderr.strip()}")
    script = f'{mount} || exit 77; "$@"; code=$?; {then}; exit $code'
    return subprocess.run(
        [*own, "sh", "-c", script, "sh", sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """In the block no file of this process can become larger; writing more is an error of the disk.

    Writing through a memory map is not an error: a file must have its size by then.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
