import json

import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.inference.quantisation import Quantisation


def vectors(count=50, dim=20, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def test_int8_is_within_half_a_step_of_what_lay_in_the_range():
    sample = vectors()
    stored = Quantisation.calibrated("int8", sample)
    codes = stored.encode(sample)
    assert codes.dtype == np.int8
    assert (codes.min(0) == -128).all()
    assert (codes.max(0) == 127).all()
    half = (sample.max(0) - sample.min(0)) / 255 / 2
    assert (np.abs(stored.decode(codes) - sample) <= half * 1.001).all()
    # What is out of the range is the nearest that there is, and does not wrap around.
    assert (stored.encode(sample * 100)[sample > 1] == 127).all()
    assert (stored.encode(sample * 100)[sample < -1] == -128).all()


def test_int8_is_that_of_sentence_transformers_but_for_its_cutting():
    library = pytest.importorskip("sentence_transformers.quantization")
    sample = vectors(200)
    theirs = library.quantize_embeddings(sample, "int8", calibration_embeddings=sample)
    ours = Quantisation.calibrated("int8", sample).encode(sample)
    assert (np.abs(ours.astype(int) - theirs) <= 1).all()
    bits = library.quantize_embeddings(sample[:, :16], "ubinary")
    np.testing.assert_array_equal(Quantisation("binary", 16).encode(sample[:, :16]), bits)


def test_a_number_that_never_varies_comes_back():
    sample = vectors()
    sample[:, 3] = 0.25
    stored = Quantisation.calibrated("int8", sample)
    np.testing.assert_array_equal(stored.decode(stored.encode(sample))[:, 3], sample[:, 3])


def test_bits_are_signs_and_their_distance_is_that_of_hamming():
    sample = vectors(dim=20)
    stored = Quantisation("binary", 20)
    codes = stored.encode(sample)
    assert (codes.dtype, codes.shape) == (np.uint8, (50, 3))
    signs = stored.decode(codes)
    np.testing.assert_array_equal(signs, np.where(sample > 0, 1, -1))
    hamming = np.bitwise_count(codes[0] ^ codes[1]).sum()
    assert ((signs[0] - signs[1]) ** 2).sum() == 4 * hamming


def test_float16_is_the_nearest_and_refuses_what_is_too_large():
    stored = Quantisation("float16", 20)
    assert stored.encode(vectors()).dtype == np.float16
    np.testing.assert_allclose(stored.decode(stored.encode(vectors())), vectors(), rtol=1e-3)
    with pytest.raises(UserError, match="too large for float16"):
        stored.encode(vectors() + 1e5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "binary"])
def test_a_record_gives_the_same_numbers_back(dtype, tmp_path):
    stored = Quantisation.calibrated(dtype, vectors())
    again = Quantisation.recorded(json.loads(json.dumps(stored.record())), tmp_path)
    codes = stored.encode(vectors(seed=1))
    assert codes.shape[1] == stored.width
    np.testing.assert_array_equal(again.encode(vectors(seed=1)), codes)
    np.testing.assert_array_equal(again.decode(codes), stored.decode(codes))
    again.check(codes, tmp_path)
    with pytest.raises(UserError, match="expected rows of"):
        again.check(codes[:, 1:], tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"dtype": "int4", "dim": 4},
        {"dtype": "int8", "dim": 4},
        {"dtype": "int8", "dim": 4, "lowest": [0.0] * 4, "highest": [1.0]},
        {"dtype": "binary", "dim": "x"},
    ],
)
def test_a_damaged_record_is_refused(values, tmp_path):
    with pytest.raises(UserError, match="does not say how the vectors"):
        Quantisation.recorded(values, tmp_path)
