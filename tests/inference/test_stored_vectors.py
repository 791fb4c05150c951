import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.inference.stored_vectors import StoredVectors

IDS = ["a", "b", "c", "d", "e"]


def write(path, ids, vectors):
    np.save(path, vectors)
    path.with_suffix(".ids.txt").write_text("".join(f"{name}\n" for name in ids))
    return path


def vectors(*shape, kind=np.float32):
    return np.random.default_rng(0).normal(size=shape).astype(kind)


def test_rows_of_several_files_are_found_by_id_and_are_unit_vectors(tmp_path):
    one, two = vectors(3, 4), vectors(7, 4)[3:].astype(np.float16)
    one[1] = 0
    write(tmp_path / "part-1.npy", ["d", "b", "unknown"], one)
    write(tmp_path / "part-2.npy", ["a", "e", "also unknown", "c"], two)
    found = StoredVectors.open(tmp_path, IDS)
    assert (len(found), found.dim) == (7, 4)
    assert found.paper.tolist() == [3, 1, -1, 0, 4, -1, 2]
    assert found.row.tolist() == [3, 1, 6, 0, 4]
    whole = np.concatenate([one, two.astype(np.float32)])
    lengths = np.linalg.norm(whole, axis=1, keepdims=True)
    unit = whole / np.where(lengths > 0, lengths, 1)
    np.testing.assert_allclose(found.tile(0, 7), unit, rtol=1e-6)
    np.testing.assert_allclose(found.tile(2, 5), unit[2:5], rtol=1e-6)
    np.testing.assert_allclose(found.rows(np.array([6, 0, 3])), unit[[6, 0, 3]], rtol=1e-6)
    again = StoredVectors.open(tmp_path, IDS)
    assert again.digest == found.digest
    write(tmp_path / "part-1.npy", ["d", "b", "unknown"], one + 1)
    assert StoredVectors.open(tmp_path, IDS).digest != found.digest


def test_what_cannot_be_used_is_refused(tmp_path):
    path = tmp_path / "v.npy"
    with pytest.raises(UserError, match=r"there is no v\.npy"):
        StoredVectors.open(path, IDS)
    with pytest.raises(UserError, match=r"holds no \.npy file"):
        StoredVectors.open(tmp_path, IDS)
    np.save(path, vectors(2, 3))
    with pytest.raises(UserError, match=r"there is no v\.ids\.txt"):
        StoredVectors.open(path, IDS)
    for ids, rows, message in (
        (["a"], vectors(2, 3), "2 vectors, and .* 1 ids"),
        (["a", "a"], vectors(2, 3), "two vectors of the paper 'a'"),
        (["a", "b"], vectors(2, 3, kind=np.float64), "float64"),
        (["a", "b"], vectors(2), "shape"),
        (["a", "b"], np.full((2, 3), np.nan, np.float32), "not finite"),
    ):
        write(path, ids, rows)
        with pytest.raises(UserError, match=message):
            StoredVectors.open(path, IDS)
    write(path, ["a", "b"], vectors(2, 3))
    write(tmp_path / "w.npy", ["c"], vectors(1, 4))
    with pytest.raises(UserError, match="width 4"):
        StoredVectors.open(tmp_path, IDS)
    path.write_bytes(b"no array")
    with pytest.raises(UserError, match="damaged"):
        StoredVectors.open(path, IDS)
