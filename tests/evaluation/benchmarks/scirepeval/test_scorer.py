import numpy as np

from sciembed_train.evaluation.benchmarks.scirepeval.scorer import Vectors

ROWS = np.array([[3, 4], [0, 0], [1, 0]], np.float32)


def test_vectors_are_found_by_id_in_the_order_asked_for():
    vectors = Vectors(["a", "b", "c"], ROWS)
    assert "b" in vectors
    assert "d" not in vectors
    assert vectors.of(["c", "a", "c"]).tolist() == [[1, 0], [3, 4], [1, 0]]
    assert vectors.of([]).shape == (0, 2)


def test_unit_vectors_are_a_copy():
    vectors = Vectors(["a", "b", "c"], ROWS.copy())
    unit = vectors.as_unit()
    np.testing.assert_allclose(unit.of(["a"]), [[0.6, 0.8]], rtol=1e-6)
    assert vectors.of(["a"]).tolist() == [[3, 4]]
