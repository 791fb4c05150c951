import numpy as np
import pytest

from sciembed_train.corpus.store.corpus_files import CORPUS_VERSION, save_info
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.mined_negatives import write_negatives
from sciembed_train.errors import UserError
from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.triplets import TripletSampling, triplet_batch
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.small_corpus import write_small_corpus


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


@pytest.fixture
def opened(tiny_bert, tmp_path):
    corpus = write_small_corpus(tmp_path / "corpus", tiny_bert)
    return corpus, TokenizationSpec(TextTokenizer.load(tiny_bert), InputFormat(), 32, seed=3)


def mine(corpus, leave_out=()):
    queries = np.unique(corpus.triplets("train")[:, 0])
    queries = queries[~np.isin(queries, leave_out)]
    negatives = (queries[:, None] + [50, 53, 56]) % 60
    negatives[::3, 1:] = -1
    write_negatives(corpus, "own", queries, negatives, np.zeros(negatives.shape), {"encoder": "e"})
    return dict(zip(queries.tolist(), negatives.tolist(), strict=True))


def test_hard_negatives_are_drawn_anew_from_the_mined_ones_and_easy_ones_stay(opened):
    corpus, reading = opened
    sampling = TripletSampling(negatives_from="mined")
    with pytest.raises(UserError, match="no mined negatives"):
        sampling.open(corpus, reading, None)
    triplets, hard = corpus.triplets("train"), corpus.hard("train")
    missing = int(triplets[np.flatnonzero(hard)[0], 0])
    mined = mine(corpus, leave_out=[missing])
    found = sampling.open(corpus, reading, None)
    plain = TripletSampling().open(corpus, reading, None)
    assert found.fingerprint != plain.fingerprint
    everything = np.arange(len(triplets))
    epochs = [found.of_epoch(everything, epoch) for epoch in range(4)]
    for rows in epochs:
        assert (rows[:, :2] == triplets[:, :2]).all()
        assert (rows[~hard] == triplets[~hard]).all()
        for query, positive, negative, kept in zip(*rows.T, triplets[:, 2], strict=True):
            assert negative == kept or negative in set(mined[query]) - {-1, query, positive}
        assert (
            rows[hard & (triplets[:, 0] == missing)] == triplets[hard & (triplets[:, 0] == missing)]
        ).all()
    assert (epochs[0][hard] != triplets[hard]).any()
    assert (epochs[0] != epochs[1]).any()
    # A draw is of its triplet: ranks and restarts make the same.
    some = np.array([7, 3, 40])
    assert (found.of_epoch(some, 2) == epochs[2][some]).all()
    batch = found.batch(everything, 1, 5, slice(10, 20))
    kept = [epochs[1][10:20, column] for column in range(3)]
    papers = np.unique(np.concatenate(kept))
    for column, rows in zip(kept, (batch.anchor, batch.positive, batch.negative), strict=True):
        assert papers[rows.numpy()].tolist() == column.tolist()
    described = found.describe(corpus, found.plan(8, 0), 30)
    assert any(text.role == "negative (mined)" for example in described for text in example.texts)
    assert (found.dev_papers == plain.dev_papers).all()


def test_of_ready_made_triplets_all_negatives_are_drawn(opened):
    corpus, reading = opened
    np.save(corpus.folder / "triplets" / "train.hard.npy", np.zeros(100, np.bool_))
    mine(corpus)
    rows = TripletSampling("mined", "own").open(corpus, reading, None).of_epoch(np.arange(100), 0)
    assert (rows[:, 2] != corpus.triplets("train")[:, 2]).mean() > 0.8


def test_a_corpus_without_a_training_triplet_is_refused(opened):
    corpus, reading = opened
    np.save(corpus.folder / "triplets" / "train.npy", np.empty((0, 3), np.int32))
    with pytest.raises(UserError, match="holds no training triplet; its report"):
        TripletSampling().open(Corpus.open(corpus.folder), reading, None)
