import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sciembed_train.corpus import id_table
from sciembed_train.corpus.id_table import UNKNOWN, IdList, IdNumbers

# Prefixes of each other, words that are just full, zeros at the end, and any letters.
NEAR = st.text(st.sampled_from("aA1\0é"), max_size=18)
IDS = st.lists(st.one_of(st.text(max_size=20), NEAR), max_size=40)


@pytest.fixture(autouse=True)
def _few_at_once(monkeypatch):
    monkeypatch.setattr(id_table, "BLOCK", 7)


@given(IDS)
def test_a_list_has_the_texts_in_their_order(texts):
    ids = IdList.of(texts)
    assert list(ids) == texts == [ids[i] for i in range(len(ids))]
    assert ids[2:5] == texts[2:5]
    if texts:
        assert ids[-1] == ids[np.int32(len(texts) - 1)] == texts[-1]
    with pytest.raises(IndexError, match=f"there are {len(texts)}"):
        ids[len(texts)]


@given(IDS, st.integers(0, 5))
def test_ids_of_a_part_of_an_arrow_array_are_the_same(texts, start):
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    column = pa.array(texts, pa.string())[start:]
    assert list(IdList.of_arrow(column)) == texts[start:]
    numbers = IdNumbers(IdList.of(texts[: start + 3]))
    expected = numbers.find_all(IdList.of(texts[start:])).tolist()
    chunks = [column[at : at + 3] for at in range(0, len(column), 3)]
    for asked in (column, pa.chunked_array(chunks, pa.string())):
        assert numbers.find_arrow(asked).tolist() == expected


@given(IDS, IDS)
def test_numbers_are_those_of_a_dictionary(texts, others):
    first = {}
    for place, text in enumerate(texts):
        first.setdefault(text, place)
    numbers = IdNumbers(IdList.of(texts))
    assert list(numbers) == list(first)
    assert numbers == first
    asked = [*others, *texts]
    expected = [first.get(text, UNKNOWN) for text in asked]
    assert numbers.find_all(IdList.of(asked)).tolist() == expected
    assert [numbers.get(text, UNKNOWN) for text in asked] == expected
    assert [text in numbers for text in asked] == [text in first for text in asked]


def test_numbers_of_ones_own_stand_for_the_places():
    numbers = IdNumbers(IdList.of(["a", "b", "a"]), np.array([5, 7, 9]))
    assert (numbers["a"], numbers["b"], len(numbers)) == (5, 7, 2)
    assert numbers.find_all(IdList.of(["b", "c", "a"])).tolist() == [7, UNKNOWN, 5]
    assert numbers.with_numbers(np.array([1, 2, 3]))["b"] == 2
    with pytest.raises(KeyError, match="c"):
        numbers["c"]
    assert 7 not in numbers


def test_what_is_no_text_of_unicode_is_unknown():
    numbers = IdNumbers(IdList.of(["a", "\ud800"]))
    assert [numbers.get(text) for text in ("\ud800", "\udfff", "a")] == [1, None, 0]


def test_an_id_of_thousands_of_letters_is_found_among_short_ones():
    long = ["x" * 5000, "x" * 5000 + "y", "x"]
    assert IdNumbers(IdList.of(long)).find_all(IdList.of(long[::-1])).tolist() == [2, 1, 0]


def test_an_id_takes_its_letters_and_little_more():
    ids = IdList.of(f"P{number:08d}" for number in range(10_000))
    table = IdNumbers(ids)
    assert ids.words.nbytes + ids.starts.nbytes + table.slots.nbytes < 30 * len(ids)
