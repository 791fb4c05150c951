import numpy as np

from sciembed_train.corpus.store.token_store import TokenStore
from sciembed_train.sampling.held_out_papers import (
    PAPERS_PER_BATCH,
    PaperBatches,
    by_slots,
    choose_dev,
)


def test_dev_triplets_are_limited_by_whole_queries():
    triplets = np.array([[q, 100 + q, 200 + k] for q in range(50) for k in range(q % 4 + 1)])
    chosen = choose_dev(triplets, 30)
    assert 0 < len(chosen) <= 30
    for query in np.unique(chosen[:, 0]):
        assert (chosen[:, 0] == query).sum() == (triplets[:, 0] == query).sum()
    assert (chosen == choose_dev(triplets, 30)).all()
    assert choose_dev(triplets, 1000) is triplets
    assert len(choose_dev(triplets, 1)) >= 1


def test_held_out_triplets_name_positions_among_their_distinct_papers():
    triplets = np.array([[7, 3, 9], [3, 7, 40]])
    papers, dev = by_slots(triplets)
    assert papers.tolist() == [3, 7, 9, 40]
    assert len(dev) == 2
    assert dev.papers == 4
    columns = np.stack([dev.anchor, dev.positive, dev.negative], axis=1)
    assert papers[columns].tolist() == triplets.tolist()


class Store(TokenStore):
    """Paper p is p tokens, all of them p."""

    lengths = np.arange(1000, dtype=np.int32)

    def __init__(self):
        pass

    def rows(self, papers, max_length):
        lengths = np.minimum(papers, max_length)
        return np.repeat(papers, lengths), lengths


def test_ranks_encode_each_paper_once_longest_first():
    papers = np.random.default_rng(0).permutation(np.arange(1, 400))
    slots = []
    for rank in range(2):
        batches = PaperBatches(Store(), papers, 30, rank, 2, formats=papers % 5)
        assert len(batches) == 2
        own = list(batches)
        assert len(own) == 2
        assert len(own[0].rows) == PAPERS_PER_BATCH
        read = np.concatenate([batch.slots for batch in own])
        assert (np.diff(papers[read]) < 0).all()
        assert np.concatenate([batch.formats for batch in own]).tolist() == list(papers[read] % 5)
        slots += read.tolist()
    assert sorted(slots) == list(range(399))
