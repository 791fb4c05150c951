import numpy as np

from sciembed_train.search.collection_map import CollectionMap


def test_the_axes_are_those_of_the_singular_value_decomposition(tmp_path):
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(200, 6)) * [9, 5, 1, 1, 1, 1] + 3).astype(np.float32)
    made = CollectionMap.of(np.arange(200), vectors)
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    _, values, right = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(made.axes @ right[:2].T), np.eye(2), atol=1e-5)
    np.testing.assert_allclose(made.share, (values[:2] ** 2).sum() / (values**2).sum(), rtol=1e-6)
    np.testing.assert_allclose(made.place(vectors), made.points, atol=1e-4)
    made.save(tmp_path / "map.npz")
    again = CollectionMap.load(tmp_path / "map.npz")
    np.testing.assert_array_equal(again.points, made.points)
    assert again.share == made.share


def test_one_paper_papers_that_are_equal_and_vectors_of_width_one_have_a_map():
    for vectors in (np.ones((1, 4)), np.ones((5, 4)), np.arange(5.0)[:, None]):
        made = CollectionMap.of(np.arange(len(vectors)), vectors.astype(np.float32))
        assert made.points.shape == (len(vectors), 2)
        assert np.isfinite(made.points).all()
