import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace

import pytest

from sciembed_train.errors import RunError, UserError
from sciembed_train.training.lock_file import LockFile
from sciembed_train.training.process_identity import Process
from sciembed_train.training.run_lock import HEARTBEAT, STALE, RunLock, sigterm_handler
from tests.helpers.runs import ROOT, finish, rows, start, wait_for_step

HOLD = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
from sciembed_train.errors import UserError
from sciembed_train.training.run_lock import RunLock
with RunLock(heartbeat=float(sys.argv[2]), stale=float(sys.argv[3])) as lock:
    try:
        lock.take(Path(sys.argv[1]))
    except UserError as error:
        print("refused", error, flush=True)
    else:
        try:
            print("taken", flush=True)  # a signal may come as soon as it is read
            time.sleep(60)
        except KeyboardInterrupt:
            sys.exit(130)
"""


def hold(folder, heartbeat=HEARTBEAT, stale=STALE):
    """A process that takes the lock, and the first line that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), str(heartbeat), str(stale)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def foreign(folder, age, pid=77):
    """A lock of another host, whose last heartbeat is so many seconds old."""
    folder.mkdir(exist_ok=True)
    path = folder / "run.lock"
    process = replace(Process.this(), host="node7", pid=pid)
    path.write_text(json.dumps({"process": asdict(process), "since": "2026-01-02 03:04:05"}))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_one_process_holds_a_run_and_another_is_told_which(tmp_path):
    run = tmp_path / "run"
    process, said = hold(run)
    try:
        assert said == "taken"
        assert names(run) == ["run.lock"]
        with RunLock() as lock, pytest.raises(UserError) as refused:
            lock.take(run)
        message = str(refused.value)
        assert f"another fit is writing this run (host {os.uname().nodename}, pid" in message
        assert f"pid {process.pid}, since 20" in message
        assert f"end it (`kill {process.pid}` on " in message
        assert "start another run with --run NAME" in message
        assert names(run) == ["run.lock"]
        second, said = hold(run)
        assert said.startswith("refused")
        second.communicate()
        assert second.returncode == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_remove_the_lock_and_the_empty_folders_that_it_made(tmp_path, number):
    process, said = hold(tmp_path / "runs" / "run")
    assert said == "taken"
    process.send_signal(number)
    process.communicate()
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: -signal.SIGTERM}[number]
    assert names(tmp_path) == []


def test_a_killed_run_is_free_at_once_on_its_own_host(tmp_path, capsys):
    process, _ = hold(tmp_path)
    process.kill()
    process.communicate()
    assert names(tmp_path) == ["run.lock"]
    begun = time.monotonic()
    with RunLock() as lock:
        lock.take(tmp_path)
        assert time.monotonic() - begun < 2
        assert f"its last fit was killed (host {os.uname().nodename}, pid {process.pid}" in (
            capsys.readouterr().err
        )
        assert names(tmp_path) == ["run.lock"]
    assert names(tmp_path) == []


def test_of_many_that_take_a_dead_lock_at_once_one_gets_it(tmp_path):
    foreign(tmp_path, age=400)
    held, refused, ready = [], [], threading.Barrier(8)

    def take():
        lock = RunLock()
        ready.wait()
        try:
            lock.take(tmp_path)
        except UserError:
            refused.append(lock)
        else:
            held.append(lock)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 7)
    held[0].check()
    held[0].release()
    assert names(tmp_path) == []


def test_a_stopped_process_still_holds_its_run(tmp_path):
    process, _ = hold(tmp_path)
    try:
        process.send_signal(signal.SIGSTOP)
        os.utime(tmp_path / "run.lock", (time.time() - 700,) * 2)
        with RunLock() as lock, pytest.raises(UserError, match="no heartbeat for 12 min: it is"):
            lock.take(tmp_path)
    finally:
        process.kill()
        process.communicate()


def test_a_stale_lock_of_another_host_is_taken_over_at_once(tmp_path, capsys):
    foreign(tmp_path, age=400)
    with RunLock() as lock:
        lock.take(tmp_path)
        found = LockFile.read(tmp_path / "run.lock")
        assert found is not None
        assert found.holder == Process.this()
    said = capsys.readouterr().err
    assert "(host node7, pid 77, since 2026-01-02 03:04:05) has sent no heartbeat for 7 min" in said
    assert names(tmp_path) == []


def test_a_requeued_run_waits_until_the_heartbeat_of_the_other_host_is_stale(tmp_path, capsys):
    foreign(tmp_path, age=STALE - 1.5)
    begun = time.monotonic()
    with RunLock() as lock:
        lock.take(tmp_path)
        assert 1 < time.monotonic() - begun < 20
    said = capsys.readouterr().err.splitlines()
    assert "is held by another fit (host node7, pid 77" in said[0]
    assert "Waiting for another heartbeat, at most 1 s" in said[0] or "at most 2 s" in said[0]
    assert "is taken for dead" in said[1]


def test_a_heartbeat_of_another_host_ends_the_wait_with_a_message(tmp_path):
    path = foreign(tmp_path, age=20)
    threading.Timer(0.3, os.utime, [path]).start()
    begun = time.monotonic()
    with RunLock() as lock, pytest.raises(UserError, match=r"host node7, pid 77.*`kill 77` on no"):
        lock.take(tmp_path)
    assert time.monotonic() - begun < 20
    assert names(tmp_path) == ["run.lock"]


def test_a_lock_that_is_given_up_while_another_waits_is_taken(tmp_path):
    path = foreign(tmp_path, age=20)
    threading.Timer(0.3, path.unlink).start()
    with RunLock() as lock:
        lock.take(tmp_path)
        lock.check()


def test_the_heartbeat_keeps_a_lock_young_and_makes_one_that_was_removed_again(tmp_path):
    path = tmp_path / "run.lock"
    with RunLock(heartbeat=0.05) as lock:
        lock.take(tmp_path)
        os.utime(path, (time.time() - 700,) * 2)
        wait_until(lambda: time.time() - path.stat().st_mtime < 100)
        path.unlink()
        wait_until(path.is_file)
        lock.check()
    assert names(tmp_path) == []


def wait_until(holds):
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_process_whose_run_was_taken_over_ends_and_leaves_the_lock_of_the_other(tmp_path):
    with RunLock() as lock:
        lock.take(tmp_path)
        lock.check()
        foreign(tmp_path, age=0)
        with pytest.raises(RunError, match=r"another fit has taken the run over \(host node7"):
            lock.check()
    found = LockFile.read(tmp_path / "run.lock")
    assert found is not None
    assert "node7" in found.describe()


def test_a_lock_that_was_never_taken_asks_for_nothing(tmp_path):
    with RunLock() as lock:
        lock.check()
    assert names(tmp_path) == []


def test_sigterm_is_as_before_when_the_lock_is_given_up(tmp_path):
    assert sigterm_handler() == signal.SIG_DFL
    with RunLock() as lock:
        lock.take(tmp_path)
        assert sigterm_handler() == signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.slow
def test_two_fits_of_one_run_and_one_that_goes_on_after_a_kill(toy):
    """Real commands: the second is refused, the first unharmed; after SIGKILL it is continued."""
    run = toy.root / "held"
    words = ("fit", *toy.arguments("--run", "held"))
    first = start(*words, "--trainer.max_epochs", "4000")
    wait_for_step(first, run, 8)
    code, said = finish(start(*words))
    assert code == 2
    assert f"another fit is writing this run (host {os.uname().nodename}, pid {first.pid}" in said
    assert "Traceback" not in said
    code, said = finish(start(*words, "--ckpt_path", "last"))
    assert (code, "another fit is writing this run" in said) == (2, True)
    code, said = finish(start("export", str(run), "--to", str(toy.root / "exported")))
    assert code == 0, said
    seen = int(rows(run)[-1]["step"])
    wait_for_step(first, run, seen + 3)
    first.kill()
    finish(first)
    assert (run / "run.lock").is_file()
    last = start(*words, "--ckpt_path", "last", "--trainer.max_epochs", "4000")
    wait_for_step(last, run, seen + 6)
    os.kill(last.pid, signal.SIGTERM)
    code, said = finish(last)
    assert code == 143
    assert "its last fit was killed" in said
    assert not list(run.glob("*run.lock*"))


def test_a_run_takes_its_lock_and_a_held_one_is_left_alone(toy, capsys):
    from sciembed_train.cli import main

    run = toy.root / "other"
    process, _ = hold(run)
    try:
        assert main(["fit", *toy.arguments("--run", "other")]) == 2
        assert "another fit is writing this run" in capsys.readouterr().err
        assert names(run) == ["run.lock"]
    finally:
        process.kill()
        process.communicate()
    assert main(["fit", *toy.arguments("--run", "other", "--trainer.max_steps", "2")]) == 0
    assert "its last fit was killed" in capsys.readouterr().err
    assert "run.lock" not in names(run)


def test_a_setting_that_is_refused_leaves_no_folder_and_no_lock(toy, capsys):
    from sciembed_train.cli import main

    words = toy.arguments("--run", "refused", "--data.batch_size", "1000000")
    assert main(["fit", *words]) == 2
    capsys.readouterr()
    assert not (toy.root / "refused").exists()


@pytest.mark.slow
def test_a_run_in_a_folder_that_cannot_be_written_is_refused(toy, tmp_path):
    from tests.helpers.small_disk import on_small_disk

    words = toy.arguments("--run", "locked", "--root", str(tmp_path))
    script = (
        "import subprocess, sys; from pathlib import Path; "
        "Path(sys.argv[1], 'locked').mkdir(); "
        "subprocess.run(['mount', '-o', 'remount,ro', sys.argv[1]], check=True); "
        "from sciembed_train.cli import main; sys.exit(main(['fit', *sys.argv[2:]]))"
    )
    done = on_small_disk(tmp_path, 10**6, "-c", script, str(tmp_path), *words)
    assert done.returncode == 2
    (message,) = done.stderr.strip().splitlines()
    assert "locked cannot be written: Read-only file system" in message
