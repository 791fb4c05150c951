import numpy as np
import pyarrow.parquet as pq

from sciembed_train.corpus.mining.cocitation_mining import Pairs
from sciembed_train.corpus.mining.pair_files import (
    CocitationWriter,
    SentencePairWriter,
    write_pairs,
)
from sciembed_train.corpus.mining.sentence_pair_mining import SentencePairs
from sciembed_train.corpus.papers import Papers

PAPERS = Papers(list("abcd"), {n: i for i, n in enumerate("abcd")}, np.ones(4, bool))
SPLITS = ("train", "dev", "test")


def test_pairs_of_papers_are_written_by_split_with_their_contexts(tmp_path):
    batches = [
        Pairs(
            rows=np.array([[0, 1], [0, 2], [1, 3]], np.int32),
            split=np.array([0, 1, 0]),
            count=np.array([2, 1, 3], np.int32),
            offsets=np.array([0, 2, 2, 3]),
            contexts=np.array([5, 7, 9]),
        ),
        Pairs(
            rows=np.array([[2, 3]], np.int32),
            split=np.array([0]),
            count=np.array([1], np.int32),
            offsets=np.array([0, 0]),
            contexts=np.empty(0, np.int64),
        ),
    ]
    sizes = (3, 1, 0)
    writers = [
        CocitationWriter(tmp_path, name, size, PAPERS)
        for name, size in zip(SPLITS, sizes, strict=True)
    ]
    written = []
    write_pairs(batches, writers, written.append)
    assert written == [3, 4]
    assert np.load(tmp_path / "train.npy").tolist() == [[0, 1], [1, 3], [2, 3]]
    assert np.load(tmp_path / "train.count.npy").tolist() == [2, 3, 1]
    assert np.load(tmp_path / "test.npy").shape == (0, 2)
    table = pq.read_table(tmp_path / "train.parquet").to_pydict()
    assert (table["paper_a"], table["paper_b"]) == (["a", "b", "c"], ["b", "d", "d"])
    assert table["contexts"] == [[5, 7], [9], []]
    assert pq.read_table(tmp_path / "dev.parquet").to_pydict()["contexts"] == [[]]


def test_pairs_of_sentences_are_written_by_split(tmp_path):
    batch = SentencePairs(np.array([[0, 1], [2, 3]], np.int32), np.array([2, 0]))
    writers = [SentencePairWriter(tmp_path, name, int(name != "dev")) for name in SPLITS]
    write_pairs([batch], writers, lambda done: None)
    assert np.load(tmp_path / "train.npy").tolist() == [[2, 3]]
    assert np.load(tmp_path / "dev.npy").shape == (0, 2)
    assert pq.read_table(tmp_path / "test.parquet").to_pydict() == {"a": [0], "b": [1]}
