from dataclasses import fields

import numpy as np
import pytest
import torch

from sciembed_train.batch import (
    DevSpans,
    LabelPart,
    Sentences,
    SpanBatch,
    TaskBatch,
    TokenRows,
    TripletPart,
    index_ranges,
    on_device,
    range_starts,
)


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


def test_held_out_spans_count_documents():
    assert len(DevSpans(documents=7, anchors=2, positives=3)) == 7


def test_sentences_of_chosen_texts_stand_where_their_tokens_are() -> None:
    rows = TokenRows.from_lists([[1, 2, 3, 4], [5, 6], [7, 8, 9]])
    sentences = Sentences(
        torch.tensor([1, 3, 0, 0, 2]), torch.tensor([2, 1, 2, 1, 1]), torch.tensor([2, 1, 2])
    )
    assert rows.ids[sentences.positions(rows.lengths)].tolist() == [2, 3, 4, 5, 6, 7, 9]
    order = torch.tensor([2, 0, 2])
    chosen, some = rows.select(order), sentences.select(order)
    assert some.counts.tolist() == [2, 2, 2]
    assert chosen.ids[some.positions(chosen.lengths)].tolist() == [7, 9, 2, 3, 4, 7, 9]


def test_the_parts_of_a_batch_of_tasks_move_with_it() -> None:
    rows = TokenRows.from_lists([[1, 2], [3]])
    index = torch.tensor([0])
    parts = (TripletPart("a", index, index, index), LabelPart("b", index, torch.tensor([0.5])))
    batch = TaskBatch(rows, torch.tensor([0, 1]), parts, 3)
    moved = batch.to("meta")
    assert len(moved) == 2
    assert [part.task for part in moved.parts] == ["a", "b"]
    assert moved.formats is batch.formats
    found = [getattr(part, f.name) for part in moved.parts for f in fields(part)]
    assert all(t.device.type == "meta" for t in found if isinstance(t, torch.Tensor))


def test_lengths_on_a_device_are_refused():
    with pytest.raises(ValueError, match="stay on the host"):
        TokenRows(torch.arange(3), torch.tensor([1, 2], device="meta"))


def test_integers_come_to_a_device_by_one_copy(monkeypatch):
    moved = []
    plain = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda *a, **k: moved.append(k) or plain(*a, **k))
    arrays = np.array([3, 4]), torch.tensor([5]), np.empty(0, np.int32)
    assert [found.tolist() for found in on_device(torch.device("cpu"), *arrays)] == [
        [3, 4],
        [5],
        [],
    ]
    assert len(moved) == 1
    on_device(torch.device("meta"), *arrays)
    assert moved[1:] == [{"non_blocking": True}]


def test_ranges_count_on_from_their_starts():
    assert index_ranges(np.array([7, 2, 0]), np.array([2, 0, 3])).tolist() == [7, 8, 0, 1, 2]
    assert range_starts(np.array([2, 0, 3])).tolist() == [0, 2, 2]
