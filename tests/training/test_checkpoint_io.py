import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sciembed_train.errors import RunError
from sciembed_train.training.checkpoint_io import RunCheckpointIO, sweep_run, tensor_bytes
from tests.helpers.runs import ROOT
from tests.helpers.small_disk import on_small_disk

WRITING = """
import sys
from pathlib import Path
import torch
from sciembed_train.training.checkpoint_io import RunCheckpointIO
for step in range(10**6):
    content = {"step": step, "weight": torch.full((8_000_000,), float(step))}
    RunCheckpointIO().save_checkpoint(content, Path(sys.argv[1]) / "last.ckpt")
"""
DELAYS = (0.01, 0.02, 0.04, 0.08)  # seconds


@pytest.fixture
def elsewhere(tmp_path):
    """A folder of another file system than the run's, for TMPDIR."""
    for place in ("/dev/shm", "/tmp", str(Path.home())):
        folder = Path(place)
        if os.access(folder, os.W_OK) and folder.stat().st_dev != tmp_path.stat().st_dev:
            own = folder / f"sciembed-{os.getpid()}"
            own.mkdir()
            yield own
            for left in own.iterdir():
                left.unlink()
            own.rmdir()
            return
    pytest.skip("this machine has one file system that can be written")


def test_a_checkpoint_comes_back_and_nothing_lies_beside_it(tmp_path):
    path = tmp_path / "run" / "last.ckpt"
    RunCheckpointIO().save_checkpoint({"step": 3, "weight": torch.ones(2)}, path)
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    content = torch.load(path, weights_only=True)
    assert content["step"] == 3
    assert torch.equal(content["weight"], torch.ones(2))


def test_a_save_that_fails_leaves_the_checkpoint_before(tmp_path):
    path = tmp_path / "last.ckpt"
    RunCheckpointIO().save_checkpoint({"step": 3}, path)
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        RunCheckpointIO().save_checkpoint({"step": 4, "bad": (x for x in ())}, path)
    assert torch.load(path, weights_only=True) == {"step": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_options_of_other_file_systems_are_refused(tmp_path):
    with pytest.raises(TypeError, match="storage_options"):
        RunCheckpointIO().save_checkpoint({}, tmp_path / "a.ckpt", storage_options={"key": "x"})


def test_a_checkpoint_is_on_the_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("fsync"), fsync(handle)))
    monkeypatch.setattr(
        Path, "replace", lambda path, to: (done.append("replace"), replace(path, to))
    )
    RunCheckpointIO().save_checkpoint({"step": 3}, tmp_path / "last.ckpt")
    assert done == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("harm", ["flipped", "cut"])
def test_a_file_that_reads_back_otherwise_does_not_take_the_name(tmp_path, monkeypatch, harm):
    path = tmp_path / "last.ckpt"
    RunCheckpointIO().save_checkpoint({"step": 3}, path)

    def bad_disk(handle):
        partial = tmp_path / "last.ckpt.partial"
        content = bytearray(partial.read_bytes())
        content[len(content) // 2] ^= 1
        partial.write_bytes(content if harm == "flipped" else content[:-40])

    monkeypatch.setattr(os, "fsync", bad_disk)
    with pytest.raises(RunError, match=r"reads back otherwise.*last\.ckpt is as it was"):
        RunCheckpointIO().save_checkpoint({"step": 4, "w": torch.ones(10**5)}, path)
    assert torch.load(path, weights_only=True) == {"step": 3}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("delay", [0.0, *(pytest.param(d, marks=pytest.mark.slow) for d in DELAYS)])
def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, elsewhere, delay):
    """TMPDIR is another file system, as on clusters; nothing is ever written there."""
    path, partial = tmp_path / "last.ckpt", tmp_path / "last.ckpt.partial"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITING, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(elsewhere), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    end = time.monotonic() + 120
    # Once a checkpoint is there, in the middle of the next.
    while not path.is_file() or not partial.is_file() or not partial.stat().st_size:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.001)  # leave the processor to the one that writes
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    content = torch.load(path, weights_only=True)
    assert torch.equal(content["weight"], torch.full((8_000_000,), float(content["step"])))
    assert list(elsewhere.iterdir()) == []
    assert delay or partial.is_file()
    sweep_run(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_what_killed_processes_left_is_swept(tmp_path):
    from tests.test_whole_folder import dead_process

    left = [f".export.partial-{dead_process()}", ".tokenizer-abc"]
    for name in left:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    for name in ("best.ckpt.partial", "metrics.partial", ".run.lock-1f", "last.ckpt"):
        (tmp_path / name).write_text("x")
    sweep_run(tmp_path)
    sweep_run(tmp_path / "none")
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


FULL = """
import sys
from pathlib import Path
import torch
from sciembed_train.training.checkpoint_io import RunCheckpointIO
path = Path(sys.argv[1]) / "last.ckpt"
if len(sys.argv) > 2:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
for step in (1, 2):
    content = {"step": step, "weight": torch.ones(step * 300_000)}
    RunCheckpointIO().save_checkpoint(content, path)
"""
WHOLE = (
    "import sys, torch; c = torch.load(sys.argv[1], weights_only=True); "
    "print('whole, step', c['step'], len(c['weight']))"
)


@pytest.mark.slow
def test_a_full_disk_leaves_the_checkpoint_before_and_says_what_to_do(tmp_path):
    then = f'ls -A {tmp_path}; {sys.executable} -c "{WHOLE}" {tmp_path / "last.ckpt"}'
    done = on_small_disk(tmp_path, 3_000_000, "-c", FULL, str(tmp_path), then=then)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(
        r"RunError: .*/last\.ckpt cannot be written: No space left on device\. It takes 0\.0024 "
        r"GB; 0\.001\d* GB are free there\. last\.ckpt is as it was\. Make room and continue with "
        r"--ckpt_path last\.$",
        last,
    )
    assert done.stdout.splitlines() == ["last.ckpt", "whole, step 1 300000"]


@pytest.mark.slow
def test_a_file_larger_than_is_allowed_is_a_full_disk_too(tmp_path):
    words = [sys.executable, "-c", FULL, str(tmp_path), "2000000"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "last.ckpt cannot be written: File too large. It takes 0.0024 GB" in done.stderr
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.slow
def test_a_run_on_a_full_disk_ends_with_one_message(toy, whole, tmp_path):
    size = (whole / "last.ckpt").stat().st_size
    words = toy.arguments("--run", "full", "--root", str(tmp_path))
    then = f'ls -A {tmp_path}/full; {sys.executable} -c "{WHOLE_RUN}" {tmp_path}/full/last.ckpt'
    # last.ckpt at step 7 has room, best.ckpt at step 10 has none.
    done = on_small_disk(
        tmp_path, int(1.7 * size), "-m", "sciembed_train.cli", "fit", *words, then=then
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (message,) = done.stderr.strip().splitlines()
    assert "best.ckpt cannot be written: No space left on device" in message
    assert "last.ckpt is as it was. Make room and continue with --ckpt_path last." in message
    *files, state = done.stdout.splitlines()
    assert "best.ckpt" not in files
    assert not [name for name in files if "partial" in name]
    assert state == "step 7"


WHOLE_RUN = "import sys, torch; print('step', torch.load(sys.argv[1])['global_step'])"


def test_the_size_of_a_checkpoint_counts_each_tensor_once():
    weight = torch.ones(10)
    content = {"a": weight, "b": [weight[:5], (torch.ones(2),)], "c": {"d": None}}
    assert tensor_bytes(content) == 48
