import json

import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.inference.vector_files import VectorFiles, ids_path


def write(path, ids, vectors):
    np.save(path, vectors)
    ids_path(path).write_text("".join(f"{name}\n" for name in ids))
    return path


def vectors(*shape, kind=np.float32):
    return np.random.default_rng(0).normal(size=shape).astype(kind)


def write_shards(folder, sizes=(3, 2), **manifest):
    folder.mkdir(exist_ok=True)
    whole, shards = vectors(sum(sizes), 4), []
    for number, size in enumerate(sizes):
        first = sum(sizes[:number])
        name = f"part-{number:05d}"
        write(
            folder / f"{name}.npy",
            [f"p{first + i}" for i in range(size)],
            whole[first : first + size],
        )
        shards.append({"part": name, "papers": size})
    content = {"model": {"name": "m", "hash": "0f"}, "shards": shards, **manifest}
    (folder / "plan.json").write_text("{}")
    (folder / "manifest.json").write_text(json.dumps(content))
    return whole


def test_a_folder_of_shards_reads_as_one_array_with_ids(tmp_path):
    whole = write_shards(tmp_path)
    stored = VectorFiles.open(tmp_path)
    assert (len(stored), stored.dim, stored.model) == (5, 4, "0f")
    assert list(stored.ids()) == ["p0", "p1", "p2", "p3", "p4"]
    np.testing.assert_array_equal(stored.between(1, 5), whole[1:5])
    np.testing.assert_array_equal(stored.rows(np.array([4, 0, 4, 2])), whole[[4, 0, 4, 2]])
    np.testing.assert_array_equal(np.concatenate(list(stored.blocks(2))), whole)
    assert [len(block) for block in stored.blocks(2)] == [2, 1, 2]
    before = stored.digest()
    write(tmp_path / "part-00001.npy", ["p3", "p5"], whole[3:])
    assert VectorFiles.open(tmp_path).digest() != before


def test_one_file_has_no_model_and_float16_becomes_float32(tmp_path):
    half = vectors(3, 2, kind=np.float16)
    stored = VectorFiles.open(write(tmp_path / "v.npy", "abc", half))
    assert stored.model is None
    assert stored.between(0, 3).dtype == np.float32
    np.testing.assert_array_equal(stored.between(0, 3), half.astype(np.float32))


def test_a_folder_that_is_not_whole_or_damaged_is_refused(tmp_path):
    write_shards(tmp_path)
    (tmp_path / "part-00001.npy").unlink()
    with pytest.raises(UserError, match=r"there is no part-00001\.npy"):
        VectorFiles.open(tmp_path)
    write(tmp_path / "part-00001.npy", ["p3"], vectors(1, 4))
    with pytest.raises(UserError, match=r"holds 1 vectors, and manifest\.json says 2"):
        VectorFiles.open(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        VectorFiles.open(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UserError, match="not all of its shards are there"):
        VectorFiles.open(tmp_path, "--vectors")


def test_ids_that_are_not_as_many_as_vectors_are_refused(tmp_path):
    path = write(tmp_path / "v.npy", "ab", vectors(3, 2))
    with pytest.raises(UserError, match=r"3 vectors, and .*v\.ids\.txt 2 ids"):
        list(VectorFiles.open(path).ids())


def test_files_of_int8_with_ranges_of_their_own_are_not_one_array(tmp_path):
    from sciembed_train.inference.quantisation import Quantisation
    from sciembed_train.inference.vector_files import quantisation_path

    for name in ("a", "b"):
        path = write(tmp_path / f"{name}.npy", ["p", "q"], np.zeros((2, 4), np.int8))
        record = Quantisation.calibrated("int8", vectors(3, 4)).record()
        quantisation_path(path).write_text(json.dumps(record))
    assert VectorFiles.open(tmp_path / "a.npy").dim == 4
    with pytest.raises(UserError, match="each with ranges of its own"):
        VectorFiles.open(tmp_path)
    np.save(tmp_path / "a.npy", np.zeros((2, 4), np.float32))
    with pytest.raises(UserError, match="expected rows of 4 numbers of int8"):
        VectorFiles.open(tmp_path / "a.npy")
