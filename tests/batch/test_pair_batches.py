import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train import distributed
from sciembed_train.batch import PairBatch, SentencePairBatch, Sentences, TokenRows, TripletBatch

PAIRS = torch.tensor([[0, 1], [2, 3], [4, 0], [1, 2]])
EXCLUDED = [[0, 0], [1, 1], [2, 2], [3, 3], [0, 2], [3, 0], [2, 3]]
NEGATIVE = torch.tensor([1, 3, 0, -1])


def pair_batch():
    """Four pairs of five papers of three tokens."""
    rows = TokenRows(torch.arange(5, 20), torch.full((5,), 3))
    return PairBatch(rows, *PAIRS.T.contiguous(), NEGATIVE, torch.tensor(EXCLUDED), 0)


def sentence_pair_batch():
    """The same pairs of papers of seven tokens and one to three sentences."""
    starts = torch.tensor([1, 3, 0, 2, 5, 0, 1, 4, 2])
    lengths = torch.tensor([2, 3, 2, 3, 2, 7, 2, 3, 4])
    counts = torch.tensor([2, 3, 1, 2, 1])
    aligned = torch.tensor([[1, 2], [0, 1], [0, 1], [2, 0]])
    return SentencePairBatch(
        rows=TokenRows(torch.arange(5, 40), torch.full((5,), 7)),
        sentences=Sentences(starts, lengths, counts),
        anchor=PAIRS[:, 0].contiguous(),
        positive=PAIRS[:, 1].contiguous(),
        negative=NEGATIVE,
        negative_count=torch.tensor([2, 1, 3, 0]),
        aligned=aligned,
        negative_aligned=torch.where(NEGATIVE[:, None] >= 0, aligned[NEGATIVE], -1),
        most=3,
        step=0,
    )


def pairs_by_tokens(batch):
    rows = [tuple(row.tolist()) for row in batch.rows.ids.split(batch.rows.lengths.tolist())]
    return [(rows[a], rows[p]) for a, p in zip(batch.anchor, batch.positive, strict=True)]


def pairs_by_sentences(batch):
    ids = batch.rows.ids[batch.sentences.positions(batch.rows.lengths)]
    sentences = [ids.tolist() for ids in ids.split(batch.sentences.lengths.tolist())]
    ends = torch.cumsum(batch.sentences.counts, 0).tolist()
    texts = [sentences[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return [(texts[a], texts[p]) for a, p in zip(batch.anchor, batch.positive, strict=True)]


def test_micro_batches_are_whole_pairs_that_keep_the_negatives_of_the_batch():
    batch = pair_batch()
    micro_batches = batch.split(9)
    assert len(micro_batches) > 1
    assert [pair for part in micro_batches for pair in pairs_by_tokens(part)] == pairs_by_tokens(
        batch
    )
    assert torch.equal(torch.cat([part.negative for part in micro_batches]), batch.negative)
    assert all(part.rows.tokens <= 9 for part in micro_batches)
    assert all(part.excluded is batch.excluded for part in micro_batches)


def test_micro_batches_are_whole_pairs_with_their_sentences():
    batch = sentence_pair_batch()
    micro_batches = batch.split(21)
    assert len(micro_batches) == 4
    assert all(part.rows.tokens <= 21 for part in micro_batches)
    split = [pair for part in micro_batches for pair in pairs_by_sentences(part)]
    assert split == pairs_by_sentences(batch)
    for name in ("negative", "negative_count", "aligned", "negative_aligned"):
        joined = torch.cat([getattr(part, name) for part in micro_batches])
        assert torch.equal(joined, getattr(batch, name))
    assert batch.split(None) == [batch]


@pytest.mark.parametrize("rank", [0, 2])
def test_the_largest_pairs_have_their_neighbours_positives_as_negatives(monkeypatch, rank):
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    largest = pair_batch().largest(4, 16)
    assert sorted([*largest.anchor.tolist(), *largest.positive.tolist()]) == list(range(8))
    first = 4 * rank
    assert largest.negative.tolist() == [first + 3, first, first + 1, first + 2]
    assert largest.excluded.tolist() == [[n, first + n] for n in range(4)]


def test_the_largest_pairs_of_sentences_have_the_most_sentences_in_every_text():
    largest = sentence_pair_batch().largest(3, 16)
    assert largest.sentences.counts.tolist() == [3] * 6
    assert len(largest.sentences.starts) == 18
    assert int((largest.sentences.starts + largest.sentences.lengths).max()) <= 16
    assert largest.negative_count.tolist() == [3] * 3
    assert largest.aligned.tolist() == [[0, 0]] * 3
    assert largest.most == 3


def triplet_batch(lengths, triplets):
    rows = TokenRows(torch.arange(sum(lengths)), torch.tensor(lengths))
    anchor, positive, negative = torch.tensor(triplets).T
    return TripletBatch(rows, anchor, positive, negative, 7)


def texts(batch):
    """The triplets of a batch by their tokens."""
    rows = [tuple(row.tolist()) for row in batch.rows.ids.split(batch.rows.lengths.tolist())]
    columns = (batch.anchor, batch.positive, batch.negative)
    return list(zip(*[[rows[i] for i in column.tolist()] for column in columns], strict=True))


@given(st.data(), st.integers(1, 60))
@settings(max_examples=50, deadline=None)
def test_micro_batches_keep_every_triplet_and_the_limit(data, limit):
    lengths = data.draw(st.lists(st.integers(1, 9), min_size=3, max_size=8))
    row = st.integers(0, len(lengths) - 1)
    triplets = data.draw(st.lists(st.tuples(row, row, row), min_size=1, max_size=10))
    batch = triplet_batch(lengths, triplets)
    micro_batches = batch.split(limit)
    assert [t for micro_batch in micro_batches for t in texts(micro_batch)] == texts(batch)
    for micro_batch in micro_batches:
        assert micro_batch.step == 7
        assert micro_batch.rows.tokens <= limit or len(micro_batch) == 1 or len(micro_batches) == 1
        if len(micro_batches) > 1:
            rows = torch.cat([micro_batch.anchor, micro_batch.positive, micro_batch.negative])
            assert sorted(rows.unique().tolist()) == list(range(len(micro_batch.rows)))


def test_no_limit_is_no_split():
    batch = triplet_batch([3, 4, 5], [(0, 1, 2)])
    assert batch.split(None) == [batch]


def test_the_largest_batch_has_every_text_of_every_triplet_once_and_full():
    batch = triplet_batch([3, 2, 4], [(0, 1, 2), (0, 2, 1)])
    largest = batch.largest(5, 16)
    assert (len(largest), len(largest.rows), largest.rows.tokens, largest.step) == (5, 15, 240, 7)
    assert set(largest.rows.lengths.tolist()) == {16}
    rows = torch.cat([largest.anchor, largest.positive, largest.negative])
    assert sorted(rows.tolist()) == list(range(15))
    assert set(largest.rows.ids.tolist()) <= set(batch.rows.ids.tolist())
