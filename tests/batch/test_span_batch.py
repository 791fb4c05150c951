from dataclasses import fields

import pytest
import torch

from sciembed_train.batch import SpanBatch, TokenRows


@pytest.fixture
def batch():
    """One document of two anchors with a positive each; one token is hidden."""
    return SpanBatch(
        rows=TokenRows.from_lists([[2, 7, 3], [2, 4, 9, 3], [2, 3], [2, 8, 3]]),
        anchor=torch.tensor([0, 1]),
        positive=torch.tensor([[2], [3]]),
        masked=torch.tensor([4]),
        labels=torch.tensor([6]),
        documents=1,
        step=5,
        first=3,
    )


def test_a_span_batch_counts_documents(batch):
    assert len(batch) == 1
    assert batch.rows.tokens == 12
    assert batch.rows.ids[batch.masked].tolist() == [4]


def test_a_span_batch_goes_to_a_device_but_for_what_plans_are_made_of(batch):
    moved = batch.to("meta", non_blocking=True)
    for field in fields(SpanBatch):
        one, other = getattr(moved, field.name), getattr(batch, field.name)
        if field.name == "masked":
            assert one is other
        elif isinstance(other, torch.Tensor):
            assert one.device.type == "meta"
            assert one.shape == other.shape
        elif isinstance(other, TokenRows):
            assert one.ids.device.type == "meta"
            assert one.lengths is other.lengths
        else:
            assert one == other


@pytest.mark.gpu
def test_a_span_batch_is_pinned_whole(batch):
    if not torch.cuda.is_available():
        pytest.skip("page-locked memory needs a CUDA device")
    pinned = batch.pin_memory()
    tensors = (pinned.anchor, pinned.positive, pinned.labels, pinned.rows.ids)
    assert all(x.is_pinned() for x in tensors)
    assert (pinned.documents, pinned.step, pinned.first) == (1, 5, 3)


def test_a_batch_without_positives_or_hidden_tokens_is_one(batch):
    none = torch.zeros(0, dtype=torch.int64)
    bare = SpanBatch(
        batch.rows, batch.anchor, torch.zeros(2, 0, dtype=torch.int64), none, none, 1, 0
    )
    assert bare.first == 0
    assert bare.to("cpu").positive.shape == (2, 0)


def token_rows(*lengths):
    return TokenRows(torch.arange(5, 5 + sum(lengths)), torch.tensor(lengths))


@pytest.mark.parametrize("copied", [False, True])
def test_micro_batches_are_whole_documents_with_their_masked_tokens(copied):
    documents, spans, limit = 3, 6, 75 if copied else 50
    lengths = [4, 6, 5, 5, 5, 7, *[3] * 12, *([4, 6, 5, 5, 5, 7] if copied else [])]
    rows = token_rows(*lengths)
    first = sum(lengths[:18]) if copied else 0
    masked = torch.tensor([1, 4, 5, 12, 16, 26, 31]) + first
    batch = SpanBatch(
        rows=rows,
        anchor=torch.arange(spans),
        positive=torch.arange(spans, 18).view(spans, 2),
        masked=masked,
        labels=torch.arange(90, 97),
        documents=documents,
        step=2,
    )
    micro_batches = batch.split(limit)
    assert len(micro_batches) > 1
    assert sum(map(len, micro_batches)) == documents
    assert max(part.rows.tokens for part in micro_batches if len(part) > 1) <= limit

    def by_tokens(part):
        rows = [tuple(row.tolist()) for row in part.rows.ids.split(part.rows.lengths.tolist())]
        anchors = [rows[i] for i in part.anchor.tolist()]
        positives = [tuple(rows[i] for i in line) for line in part.positive.tolist()]
        hidden = zip(part.rows.ids[part.masked].tolist(), part.labels.tolist(), strict=True)
        return anchors, positives, list(hidden), rows

    whole, parts = by_tokens(batch), [by_tokens(part) for part in micro_batches]
    for column in range(3):
        assert [value for part in parts for value in part[column]] == whole[column]
    assert sorted(row for part in parts for row in part[3]) == sorted(whole[3])
    assert all((part.masked.diff() > 0).all() for part in micro_batches)
    assert batch.split(None) == [batch]


@pytest.mark.parametrize("copied", [False, True])
def test_the_largest_batch_masks_as_large_a_share_of_each_anchor(copied):
    lengths = [4, 6, 5, 5, 5, 5] + ([4, 6] if copied else [])
    start = 30 if copied else 0
    batch = SpanBatch(
        token_rows(*lengths),
        torch.tensor([0, 1]),
        torch.tensor([[2, 3], [4, 5]]),
        torch.tensor([1, 4, 5]) + start,
        torch.tensor([9, 9, 9]),
        documents=2,
        step=0,
    )
    largest = batch.largest(3, 10)
    assert len(largest) == 3
    assert len(largest.rows) == 3 * (3 + copied)
    # One of 4 and two of 6 tokens: a third of ten.
    assert len(largest.masked) == len(largest.labels) == 9
    assert set((largest.masked // 10).tolist()) == ({9, 10, 11} if copied else {0, 1, 2})
    assert sorted(largest.masked.tolist()) == largest.masked.tolist()
