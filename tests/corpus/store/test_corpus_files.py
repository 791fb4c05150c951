import errno
import json

import numpy as np
import pytest

from sciembed_train.corpus import row_blocks
from sciembed_train.corpus.store.corpus_files import (
    CORPUS_VERSION,
    ArrayWriter,
    SplitWriter,
    of_texts,
    read_documents,
    read_info,
    read_papers,
    save_documents,
    save_queries,
    written_whole,
)
from sciembed_train.errors import RunError, UserError


def test_only_a_corpus_of_this_version_is_read(tmp_path):
    (tmp_path / "corpus.json").write_text(json.dumps({"version": CORPUS_VERSION, "counts": {}}))
    assert read_info(tmp_path)["counts"] == {}
    (tmp_path / "corpus.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(UserError, match="version 99; this program reads version 3"):
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
    with SplitWriter(tmp_path, "test", 1) as writer:
        writer.add(np.array([[1, 2, 3]], np.int32), np.array([1], bool))
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


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="no corpus"), written_whole(tmp_path):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot be written"), written_whole(tmp_path / "file/c"):
        pass


def test_a_full_disk_is_told_by_the_folder(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(RunError, match=r"c cannot be written: No space.*Make room and run the same"),
        written_whole(tmp_path / "c"),
    ):
        raise full
    assert list(tmp_path.iterdir()) == []


def test_triplets_that_are_not_written_whole_leave_the_error_that_stopped_them(tmp_path):
    with pytest.raises(OSError, match="full"), SplitWriter(tmp_path, "test", 2):
        raise OSError("full")
    with pytest.raises(RuntimeError, match="number of rows"), SplitWriter(tmp_path, "dev", 2):
        pass


@pytest.mark.parametrize("seed", range(5))
def test_pairs_of_texts_are_those_of_a_loop(monkeypatch, seed):
    monkeypatch.setattr(row_blocks, "BLOCK", 8)
    rng = np.random.default_rng(seed)
    first = np.minimum(np.arange(12), rng.integers(0, 12 * seed + 1, 12)).astype(np.int32)
    first = first[first]
    pairs = rng.integers(0, 12, (40 * seed, 2)).astype(np.int32)
    of_first = {(int(first[a]), int(first[b])) for a, b in pairs}
    expected = sorted((a, b) for a, b in of_first if a != b)
    found = of_texts(pairs, first)
    assert (list(map(tuple, found.tolist())), found.dtype) == (expected, np.int32)


def test_pairs_are_themselves_where_all_texts_differ():
    pairs = np.array([[1, 0], [0, 1], [0, 1]], np.int32)
    assert of_texts(pairs, np.arange(2)) is pairs
