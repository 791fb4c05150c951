import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sciembed_train.whole_folder import sweep, whole_folder


def dead_process() -> str:
    """This machine, and the number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return f"{socket.gethostname()}-{child.pid}"


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    to = tmp_path / "deep" / "c"
    with pytest.raises(RuntimeError), whole_folder(to) as folder:  # noqa: PT012
        (folder / "corpus.json").write_text("{}")
        raise RuntimeError
    assert list(to.parent.iterdir()) == []
    for text in ("1", "2"):
        with whole_folder(to) as folder:
            (folder / "corpus.json").write_text(text)
        assert (to / "corpus.json").read_text() == text
        assert [p.name for p in to.parent.iterdir()] == ["c"]


def test_the_old_folder_stays_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    to = tmp_path / "c"
    with whole_folder(to) as folder:
        (folder / "corpus.json").write_text("1")
    rename = Path.rename

    def refuse(path, target):
        if ".partial-" in path.name:
            raise PermissionError(13, "no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError), whole_folder(to):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    assert (to / "corpus.json").read_text() == "1"


def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    host = socket.gethostname()
    dead = tmp_path / f".c.partial-{host}-{child.pid}"
    alive = tmp_path / f".c.partial-{host}-{os.getppid()}"
    elsewhere = tmp_path / f".c.partial-otherhost-{child.pid}"
    for path in (dead, alive, elsewhere):
        path.mkdir()
    with whole_folder(tmp_path / "c") as folder:
        (folder / "corpus.json").write_text("{}")
    assert not dead.exists()
    assert alive.exists()
    assert elsewhere.exists()


def test_a_folder_set_aside_by_a_killed_process_comes_back(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    old = tmp_path / f".c.old-{socket.gethostname()}-{child.pid}"
    old.mkdir()
    (old / "corpus.json").write_text("1")
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "c"):
        raise RuntimeError
    assert (tmp_path / "c" / "corpus.json").read_text() == "1"


def test_what_another_machine_left_is_removed_after_a_day(tmp_path):
    for name, age in (("old", 25 * 3600), ("new", 23 * 3600)):
        folder = tmp_path / f".c.partial-{name}host-1"
        folder.mkdir()
        (folder / "corpus.json").write_text("1")
        for path in (folder / "corpus.json", folder):
            os.utime(path, (time.time() - age,) * 2)
    sweep(tmp_path / "c")
    assert [path.name for path in tmp_path.iterdir()] == [".c.partial-newhost-1"]
