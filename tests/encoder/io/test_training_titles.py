import numpy as np
import pytest

from sciembed_train.encoder.io.training_titles import (
    NAME,
    read_titles,
    title_numbers,
    trained_on,
    write_titles,
)
from sciembed_train.errors import UserError
from sciembed_train.text.normalise import text_number


def numbers(*titles):
    return np.array([text_number(title) for title in titles], np.int64)


def test_titles_are_distinct_ascending_and_found_again(tmp_path):
    names = [f"title {i}" for i in range(50)]
    titles = title_numbers(numbers(*names), numbers(*names[:9], "", "another"))
    assert titles.dtype == np.uint64
    assert len(titles) == 51
    assert (np.diff(titles.astype(object)) > 0).all()
    write_titles(tmp_path, titles)
    assert np.load(tmp_path / NAME, allow_pickle=False).dtype == np.dtype("<u8")
    read = read_titles(tmp_path)
    assert np.array_equal(read, titles)
    asked = numbers("TITLE: 3!", "title 50", "", "another")
    assert trained_on(read, asked).tolist() == [True, False, False, True]
    assert not trained_on(title_numbers(), asked).any()


def test_a_folder_without_the_file_says_nothing(tmp_path):
    assert read_titles(tmp_path) is None


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([2, 1], np.uint64), "is damaged"),
        (np.array([1, 2], np.int64), "is damaged"),
        (np.array([[1, 2]], np.uint64), "is damaged"),
        (np.array([{"a": 1}], object), "cannot be read"),
    ],
)
def test_a_file_of_anything_else_is_refused(tmp_path, array, message):
    np.save(tmp_path / NAME, array, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        read_titles(tmp_path)


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    write_titles(tmp_path, title_numbers(numbers("one", "two")))
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes()[:-3])
    with pytest.raises(UserError, match="cannot be read"):
        read_titles(tmp_path)
