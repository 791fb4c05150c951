import errno
import json
import os
from dataclasses import asdict

import pytest

from sciembed_train.training import lock_file
from sciembed_train.training.lock_file import LockFile, drop, give_name
from sciembed_train.training.process_identity import Process


def test_a_lock_tells_who_holds_it(tmp_path):
    process = Process("node7", "boot", 12, "99")
    path = tmp_path / "run.lock"
    path.write_text(json.dumps({"process": asdict(process), "since": "2026-01-02 03:04:05+00:00"}))
    lock = LockFile.read(path)
    assert lock is not None
    assert lock.holder == process
    assert lock.describe() == "host node7, pid 12, since 2026-01-02 03:04:05+00:00"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"process": {"pid": 1}}', "\x00" * 9])
def test_a_lock_that_is_not_whole_has_no_holder(tmp_path, text):
    path = tmp_path / "run.lock"
    path.write_text(text)
    lock = LockFile.read(path)
    assert lock is not None
    assert lock.holder is None
    assert "has not said" in lock.describe()


def test_no_lock_is_none(tmp_path):
    assert LockFile.read(tmp_path / "run.lock") is None
    assert LockFile.read(tmp_path / "none" / "run.lock") is None


@pytest.mark.parametrize("links", [True, False])
def test_one_of_several_gets_the_name_with_hard_links_and_without(tmp_path, monkeypatch, links):
    if not links:

        def no_link(source, path):
            raise OSError(errno.EPERM, "not permitted")

        monkeypatch.setattr(lock_file.os, "link", no_link)
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    assert give_name(tmp_path / "a", tmp_path / "run.lock")
    assert not give_name(tmp_path / "b", tmp_path / "run.lock")
    assert (tmp_path / "run.lock").read_text() == "a"


def test_a_link_whose_answer_was_lost_counts(tmp_path, monkeypatch):
    """NFS sends the request again, and the second answer is that the name is taken."""
    link = os.link

    def twice(source, path):
        link(source, path)
        link(source, path)

    monkeypatch.setattr(lock_file.os, "link", twice)
    (tmp_path / "a").write_text("a")
    assert give_name(tmp_path / "a", tmp_path / "run.lock")


def test_a_dead_lock_is_dropped_and_one_that_took_its_place_is_not(tmp_path):
    path = tmp_path / "run.lock"
    path.write_text("dead")
    dead = LockFile.read(path)
    assert dead is not None
    drop(path, dead)
    assert list(tmp_path.iterdir()) == []
    drop(path, dead)  # another was faster
    path.write_text("living")
    drop(path, dead)
    assert path.read_text() == "living"
    assert list(tmp_path.iterdir()) == [path]


def test_the_lock_that_took_the_place_of_a_dead_one_is_there_all_the_time(tmp_path, monkeypatch):
    """A process that finds the name free for a moment would take it, and two would hold the run."""
    path = tmp_path / "run.lock"
    path.write_text("dead")
    dead = LockFile.read(path)
    path.write_text("living")
    there = []
    monkeypatch.setattr(
        lock_file.LockFile, "read", lambda file: there.append(path.exists()) or dead
    )
    monkeypatch.setattr(lock_file.Path, "rename", lambda *_: pytest.fail("it is moved away"))
    monkeypatch.setattr(lock_file.LockFile, "__eq__", lambda *_: False)
    assert dead is not None
    drop(path, dead)
    assert there == [True]
    assert path.read_text() == "living"


@pytest.mark.parametrize(("age", "left"), [(1, True), (100, False)])
def test_one_process_at_a_time_drops_a_lock(tmp_path, age, left):
    path, guard = tmp_path / "run.lock", tmp_path / ".run.lock-drop"
    for file in (path, guard):
        file.write_text("dead")
    os.utime(guard, (guard.stat().st_mtime - age,) * 2)
    dead = LockFile.read(path)
    assert dead is not None
    drop(path, dead)
    assert path.exists()
    assert guard.exists() == left
    if not left:  # the process that held it had died
        drop(path, dead)
        assert list(tmp_path.iterdir()) == []
