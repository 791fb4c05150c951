import numpy as np
import pytest

from sciembed_train.corpus.store.corpus_files import CORPUS_VERSION, save_info
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.triplets import TripletSampling, triplet_batch
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer


class Letters:
    """A token store in which paper p is p + 1 times the token 100 + p."""

    lengths = np.arange(1, 6, dtype=np.int32)

    def rows(self, papers, max_length):
        lengths = np.minimum(papers + 1, max_length)
        return np.repeat(100 + papers, lengths), lengths


def test_a_batch_holds_each_paper_once_and_rebuilds_its_triplets():
    triplets = np.array([[4, 1, 2], [4, 2, 0], [3, 1, 0], [4, 1, 3]], dtype=np.int32)
    batch = triplet_batch(Letters(), triplets, np.array([3, 0, 1]), max_length=4, step=9)
    assert batch.step == 9
    assert len(batch) == 3
    assert batch.rows.lengths.tolist() == [1, 2, 3, 4, 4]
    starts = np.cumsum([0, *batch.rows.lengths.tolist()[:-1]])
    paper = (batch.rows.ids.numpy()[starts] - 100).tolist()
    columns = (batch.anchor, batch.positive, batch.negative)
    rebuilt = [[paper[i] for i in column.tolist()] for column in columns]
    assert np.array(rebuilt).T.tolist() == [[4, 1, 3], [4, 1, 2], [4, 2, 0]]


def test_full_texts_alone_are_refused_before_anything_is_asked_of_them(tmp_path, tiny_bert):
    with pytest.raises(UserError, match=r"data\.fulltexts is not used by .*TripletSampling"):
        TripletSampling.check_raw({"fulltexts": "x.txt"}, "auto")
    save_info(tmp_path, {"version": CORPUS_VERSION, "counts": {"papers": 0, "documents": 3}})
    reading = TokenizationSpec(TextTokenizer.load(tiny_bert), InputFormat(), 16, seed=0)
    with pytest.raises(UserError, match="holds no triplets"):
        TripletSampling().open(Corpus.open(tmp_path), reading, None)
