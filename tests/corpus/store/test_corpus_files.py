import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sciembed_train.corpus.store.corpus_files import (
    CORPUS_VERSION,
    ArrayWriter,
    read_documents,
    read_info,
    read_papers,
    save_documents,
    save_queries,
    save_split,
    written_whole,
)
from sciembed_train.errors import UserError


def test_only_a_corpus_of_this_version_is_read(tmp_path):
    (tmp_path / "corpus.json").write_text(json.dumps({"version": CORPUS_VERSION, "counts": {}}))
    assert read_info(tmp_path)["counts"] == {}
    (tmp_path / "corpus.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(UserError, match="version 99; this program reads version 1"):
        read_info(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read_info(tmp_path / "none")


def test_an_array_is_written_in_parts_and_must_be_whole(tmp_path):
    writer = ArrayWriter(tmp_path / "a.npy", "<i4", (3, 2))
    writer.add(np.array([[1, 2], [3, 4]]))
    writer.add(np.array([[5, 6]]))
    writer.close()
    assert np.load(tmp_path / "a.npy").tolist() == [[1, 2], [3, 4], [5, 6]]
    short = ArrayWriter(tmp_path / "b.npy", "<i4", (2,))
    short.add(np.array([1]))
    with pytest.raises(RuntimeError, match="another number of rows"):
        short.close()


def test_arrays_of_a_split_are_small_integers(tmp_path):
    save_documents(tmp_path, "dev", np.array([4, 5]))
    save_queries(tmp_path, "train", np.array([1]))
    save_split(tmp_path, "test", np.array([[1, 2, 3]]), np.array([1]))
    arrays = {
        path.relative_to(tmp_path).as_posix(): np.load(path) for path in tmp_path.rglob("*.npy")
    }
    assert {name: (str(a.dtype), a.tolist()) for name, a in arrays.items()} == {
        "documents/dev.npy": ("int32", [4, 5]),
        "queries/train.npy": ("int32", [1]),
        "triplets/test.npy": ("int32", [[1, 2, 3]]),
        "triplets/test.hard.npy": ("bool", [True]),
    }


def test_papers_have_their_abstract_as_it_was_given(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [
        {"paper": 0, "paper_id": "a", "title": "T", "abstract": "One text.", "sentences": None},
        {
            "paper": 1,
            "paper_id": "b",
            "title": None,
            "abstract": None,
            "sentences": ["One.", "Two."],
        },
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "papers.parquet")
    papers = list(read_papers(tmp_path / "papers.parquet", batch=1))
    assert [paper["abstract"] for paper in papers] == ["One text.", ["One.", "Two."]]
    assert all("sentences" not in paper for paper in papers)
    pq.write_table(pa.table({"text": ["x", "y"]}), tmp_path / "documents.parquet")
    assert list(read_documents(tmp_path / "documents.parquet")) == ["x", "y"]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    to = tmp_path / "deep" / "c"
    with pytest.raises(RuntimeError), written_whole(to) as folder:  # noqa: PT012
        (folder / "corpus.json").write_text("{}")
        raise RuntimeError
    assert list(to.parent.iterdir()) == []
    for text in ("1", "2"):
        with written_whole(to) as folder:
            (folder / "corpus.json").write_text(text)
        assert json.loads((to / "corpus.json").read_text()) == int(text)
        assert [p.name for p in to.parent.iterdir()] == ["c"]


def test_the_old_corpus_stays_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    to = tmp_path / "c"
    with written_whole(to) as folder:
        (folder / "corpus.json").write_text("1")
    rename = Path.rename

    def refuse(path, target):
        if ".partial-" in path.name:
            raise PermissionError(13, "no")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError), written_whole(to):
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
    with written_whole(tmp_path / "c") as folder:
        (folder / "corpus.json").write_text("{}")
    assert not dead.exists()
    assert alive.exists()
    assert elsewhere.exists()


def test_a_corpus_set_aside_by_a_killed_process_comes_back(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    old = tmp_path / f".c.old-{socket.gethostname()}-{child.pid}"
    old.mkdir()
    (old / "corpus.json").write_text("1")
    with pytest.raises(RuntimeError), written_whole(tmp_path / "c"):
        raise RuntimeError
    assert (tmp_path / "c" / "corpus.json").read_text() == "1"


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="no corpus"), written_whole(tmp_path):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"), written_whole(tmp_path / "file/c"):
        pass
