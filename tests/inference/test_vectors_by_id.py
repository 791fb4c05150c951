import json

import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.inference.vectors_by_id import VectorRows, VectorsById, vectors_hash

VECTORS = np.array([[1, 2, 3], [0, 0, 0], [-1, 0.5, 1e-3]], np.float32)
IDS = ["W1", "p 2", "3"]


def write_array(path, rows=VECTORS, ids=IDS, ending=".ids.txt"):
    np.save(path, rows)
    path.with_suffix(ending).write_text("".join(f"{name}\n" for name in ids))
    return path


def write_rows(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def assert_holds_all(file):
    assert (len(file), file.dim, file.first_id) == (3, 3, "W1")
    np.testing.assert_array_equal(file.positions(["3", "W1", "none", "p 2"]), [2, 0, -1, 1])
    np.testing.assert_array_equal(file.rows(file.positions(["3", "W1"])), VECTORS[[2, 0]])
    assert "p 2" in file
    assert "none" not in file


@pytest.mark.parametrize("ending", [".ids.txt", ".txt"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_an_array_has_its_ids_beside_it(tmp_path, kind, ending):
    file = VectorsById(write_array(tmp_path / "v.npy", VECTORS.astype(kind), IDS, ending))
    assert_holds_all(file)
    assert isinstance(file._files.arrays[0], np.memmap)


@pytest.mark.parametrize(
    "row",
    [
        lambda name, vector: {"paper_id": name, "embedding": vector},
        lambda name, vector: {"paper_id": name, "title": "A title", "embedding": vector},
        lambda name, vector: {"doc_id": name, "vector": vector},
        lambda name, vector: {"paperId": name, "embedding": {"model": "m", "vector": vector}},
        lambda name, vector: {"corpusid": name, "model": "m", "vector": json.dumps(vector)},
    ],
)
def test_rows_have_an_id_and_a_vector_by_the_names_that_others_use(tmp_path, row):
    rows = [row(*pair) for pair in zip(IDS, VECTORS.tolist(), strict=True)]
    assert_holds_all(VectorsById(write_rows(tmp_path / "v.jsonl", rows)))


def write_shards(folder, ids=IDS):
    """A folder as `embed` writes it, in so far as it is read."""
    folder.mkdir()
    shards = []
    for number, part in enumerate((slice(0, 2), slice(2, 3))):
        write_array(folder / f"part-{number:05d}.npy", VECTORS[part], ids[part])
        shards.append({"part": f"part-{number:05d}", "papers": len(ids[part])})
    manifest = {"model": {"hash": "h"}, "similarity": "cosine", "shards": shards}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_folder_of_shards_is_read_as_one_file(tmp_path):
    folder = write_shards(tmp_path / "v")
    assert_holds_all(VectorsById(folder))
    assert VectorsById(folder).similarity == "cosine"
    before = vectors_hash(folder)
    np.save(folder / "part-00001.npy", VECTORS[2:] + 1)
    assert vectors_hash(folder) != before
    np.save(folder / "part-00001.npy", VECTORS[2:] * np.nan)
    with pytest.raises(UserError, match=r"row 3 \(3\): the vector has numbers that are not finite"):
        VectorsById(folder)


def test_an_id_in_two_shards_and_a_shard_that_is_missing_are_refused(tmp_path):
    with pytest.raises(UserError, match="the id W1 was given before"):
        VectorsById(write_shards(tmp_path / "twice", ["W1", "p 2", "W1"]))
    folder = write_shards(tmp_path / "v")
    (folder / "part-00001.npy").unlink()
    with pytest.raises(UserError, match=r"--embeddings .* there is no part-00001.npy"):
        VectorsById(folder)


def test_a_parquet_file_of_lists_is_read(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"paper_id": IDS, "embedding": VECTORS.tolist()})
    pq.write_table(table, tmp_path / "v.parquet")
    assert_holds_all(VectorsById(tmp_path / "v.parquet"))


def test_a_number_is_the_id_of_its_digits(tmp_path):
    rows = [{"corpus_id": 17, "embedding": [1, 2]}]
    assert "17" in VectorsById(write_rows(tmp_path / "v.jsonl", rows))


def test_parts_are_unit_vectors_where_that_is_asked(tmp_path):
    file = VectorsById(write_array(tmp_path / "v.npy"))
    rows = VectorRows(file, np.array([2, 1, 0]), unit=True)
    lengths = np.linalg.norm(VECTORS, axis=1, keepdims=True)
    expected = (VECTORS / np.where(lengths == 0, 1, lengths))[[2, 1, 0]]
    np.testing.assert_allclose(rows[:], expected, atol=1e-7)
    np.testing.assert_array_equal(rows[1:3], rows[:][1:])
    np.testing.assert_array_equal(VectorRows(file, np.array([2, 1]))[:1], VECTORS[2:])


GOOD = {"paper_id": "a", "embedding": [1.0, 2.0]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"paper_id": "b", "embedding": [1.0]},
            ":2: the vector of b has 1 numbers, and that of .*:1",
        ),
        (
            {"paper_id": "b", "embedding": [1, float("nan")]},
            ":2: b: the vector has numbers that are",
        ),
        ({"paper_id": "b", "embedding": [1, 1e39]}, ":2: b: the vector has numbers that are not"),
        ({"paper_id": "a", "embedding": [1, 2]}, ":2: the id a was given before"),
        ({"paper_id": "b", "vectors": [1, 2]}, ":2: there is no vector: .*has the fields paper_id"),
        ({"paper": "b", "embedding": [1, 2]}, r":2: there is no id \(paper_id, "),
        ({"paper_id": "b", "embedding": "none"}, ":2: `embedding` of b is the text 'none'"),
        ({"paper_id": "b", "embedding": [[1, 2]]}, ":2: `embedding` of b is a list of 1; expected"),
        ({"paper_id": "b", "embedding": [[1], [1, 2]]}, ":2: `embedding` of b is a list of 2"),
        ({"paper_id": "b", "embedding": []}, ":2: `embedding` of b is a list of 0"),
        ({"paper_id": "b", "sentence_embeddings": [[1, 2]]}, ":2: this has a vector for each sent"),
    ],
)
def test_a_row_that_is_no_vector_is_told_by_its_line(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        VectorsById(write_rows(tmp_path / "v.jsonl", [GOOD, row]))


def test_a_file_without_a_row_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no row; a row is"):
        VectorsById(write_rows(tmp_path / "v.jsonl", []))


@pytest.mark.parametrize(
    ("rows", "ids", "message"),
    [
        (VECTORS, IDS[:2], r"holds 3 vectors, and v.ids.txt 2 ids"),
        (VECTORS, ["a", "b", "a"], r"v.ids.txt:3: the id a was given before"),
        (VECTORS, ["a", "", "c"], r"v.ids.txt:2: `id` is empty"),
        (VECTORS.astype(int), IDS, r"holds int64 of shape \(3, 3\); expected"),
        (VECTORS[0], IDS, r"holds float32 of shape \(3,\); expected"),
        (np.full((3, 3), np.inf), IDS, r"row 1 \(W1\): the vector has numbers that are not"),
        (VECTORS.astype(np.float64) * 1e300, IDS, r"row 1 \(W1\): the vector has numbers"),
    ],
)
def test_an_array_that_is_no_list_of_vectors_is_told(tmp_path, rows, ids, message):
    with pytest.raises(UserError, match=message):
        VectorsById(write_array(tmp_path / "v.npy", rows, ids))


def test_a_file_that_is_not_there_or_no_array_is_told(tmp_path):
    with pytest.raises(UserError, match=r"v.npy: there is no such file \(--embeddings\)"):
        VectorsById(tmp_path / "v.npy")
    np.save(tmp_path / "v.npy", VECTORS)
    with pytest.raises(UserError, match=r"no v.ids.txt and no v.txt beside it"):
        VectorsById(tmp_path / "v.npy")
    (tmp_path / "v.npy").write_text("text")
    with pytest.raises(UserError, match=r"this is not an .npy file"):
        VectorsById(tmp_path / "v.npy")
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(UserError, match=r"this is not an .npy file"):
        VectorsById(tmp_path / "objects.npy")


def test_the_hash_follows_vectors_and_ids(tmp_path):
    path = write_array(tmp_path / "v.npy")
    before = vectors_hash(path)
    assert vectors_hash(write_array(path)) == before
    assert vectors_hash(write_array(path, ids=["W1", "W2", "3"])) != before
    assert vectors_hash(write_array(path, rows=VECTORS + 1)) != before
    with pytest.raises(UserError, match="there is no such file"):
        vectors_hash(tmp_path / "none.npy")
