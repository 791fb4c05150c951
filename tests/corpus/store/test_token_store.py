import pickle

import numpy as np
import pytest

from sciembed_train.corpus.store.token_store import TokenStore, has_text
from sciembed_train.corpus.store.token_store_writing import write_token_store
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.small_corpus import small_papers


def expected(tokenizer, input_format, papers, max_length):
    texts = [input_format.compose(p["title"], p["abstract"], tokenizer.sep_token) for p in papers]
    return tokenizer.rows(texts, max_length)


def split_rows(ids, lengths):
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths)[:-1])]


@pytest.mark.parametrize("fixture", ["tiny_bert", "tiny_roberta"])
@pytest.mark.parametrize("shard_papers", [7, 1000])
def test_rows_are_the_tokenizers_own_for_any_shard_size(request, tmp_path, fixture, shard_papers):
    tokenizer = TextTokenizer.load(request.getfixturevalue(fixture))
    papers = small_papers(40)
    input_format = InputFormat()
    store = write_token_store(
        tmp_path / "s", tokenizer, input_format, papers, shard_papers=shard_papers, batch_papers=5
    )
    assert len(store) == 40
    asked = np.array([39, 0, 7, 7, 6, 13, 22])
    for max_length in (512, 20, 3):
        ids, lengths = store.rows(asked, max_length)
        want = expected(tokenizer, input_format, [papers[i] for i in asked], max_length)
        assert split_rows(ids, lengths) == want
    assert store.lengths.tolist() == [
        len(row) - len(store.prefix) - len(store.suffix)
        for row in expected(tokenizer, input_format, papers, 10**6)
    ]


def test_has_text_sees_lists_strings_and_nothing():
    assert has_text("a", None)
    assert has_text("", ["", "b"])
    assert not has_text(None, None)
    assert not has_text("  ", ["", "\n"])


def test_a_store_sent_to_a_worker_is_mapped_there_and_not_copied(tiny_bert, tmp_path):
    tokenizer = TextTokenizer.load(tiny_bert)
    store = write_token_store(tmp_path / "s", tokenizer, InputFormat(), small_papers(300))
    store.rows(np.arange(300), 64)
    sent = pickle.dumps(store)
    assert len(sent) < 3000
    again = pickle.loads(sent)
    assert np.array_equal(again.rows(np.arange(300), 64)[0], store.rows(np.arange(300), 64)[0])


def test_asking_for_nothing_or_for_the_wrong_thing(tiny_bert, tmp_path):
    tokenizer = TextTokenizer.load(tiny_bert)
    store = write_token_store(tmp_path / "s", tokenizer, InputFormat(), small_papers(3))
    ids, lengths = store.rows(np.array([], dtype=np.int64), 16)
    assert len(ids) == len(lengths) == 0
    with pytest.raises(IndexError):
        store.rows(np.array([3]), 16)
    with pytest.raises(ValueError, match="special tokens"):
        store.rows(np.array([0]), 2)
    with pytest.raises(ValueError, match="in order"):
        write_token_store(
            tmp_path / "t", tokenizer, InputFormat(), [{"paper": 1, "title": "", "abstract": ""}]
        )
    with pytest.raises(UserError, match="no token store"):
        TokenStore.open(tmp_path)


@pytest.mark.parametrize("fixture", ["tiny_bert", "tiny_roberta"])
@pytest.mark.parametrize("shard_papers", [7, 1000])
def test_slices_are_the_named_tokens_between_the_special_ones(
    request, tmp_path, fixture, shard_papers
):
    tokenizer = TextTokenizer.load(request.getfixturevalue(fixture))
    papers = small_papers(40)
    store = write_token_store(
        tmp_path / "s", tokenizer, InputFormat(), papers, shard_papers=shard_papers
    )
    bodies = [store.slices([i], [0], [n])[0] for i, n in enumerate(store.lengths)]
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 40, 300)
    starts = rng.integers(0, store.lengths[rows] + 1)
    lengths = rng.integers(0, store.lengths[rows] - starts + 1)
    ids, sizes = store.slices(rows, starts, lengths)
    special = len(store.prefix)
    expected = [
        [*store.prefix, *bodies[r][special + s : special + s + n], *store.suffix]
        for r, s, n in zip(rows, starts, lengths, strict=True)
    ]
    assert split_rows(ids, sizes) == expected
    assert ids.dtype == sizes.dtype == np.int64
    assert [len(a) for a in store.slices([], [], [])] == [0, 0]


@pytest.mark.parametrize(
    ("row", "start", "length"), [(3, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 0, -1), (0, 2, 10**6)]
)
def test_a_slice_outside_its_text_is_refused(tiny_bert, tmp_path, row, start, length):
    tokenizer = TextTokenizer.load(tiny_bert)
    store = write_token_store(tmp_path / "s", tokenizer, InputFormat(), small_papers(3))
    with pytest.raises(IndexError):
        store.slices([1, row], [0, start], [1, length])
