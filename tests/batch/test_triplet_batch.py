import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.batch import TokenRows, TripletBatch


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
