from dataclasses import fields

import pytest
import torch

from sciembed_train.batch import LabelPart, TaskBatch, TokenRows, TripletPart


def rows(*lengths):
    return TokenRows(torch.arange(5, 5 + sum(lengths)), torch.tensor(lengths))


def column(*values):
    return torch.tensor(values)


def task_batch():
    """Seven texts of three tokens for numbers, classes, topics and triplets."""
    parts = (
        LabelPart("level", column(0, 1), column(0.5, -2.0)),
        LabelPart("field", column(2, 3, 4), column(2, 0, 2)),
        LabelPart("topics", column(3, 4), column([1.0, 0, 0, 1], [0.0, 0, 0, 1])),
        TripletPart("near", column(6, 6, 5), column(5, 4, 2), column(2, 3, 6)),
    )
    return TaskBatch(rows(*[3] * 7), column(1, 1, 0, 0, 0, 2, 3), parts, 0)


def examples(batches):
    """The examples of batches by their tokens, formats and labels."""
    named = []
    for batch in batches:
        ids = [tuple(row.tolist()) for row in batch.rows.ids.split(batch.rows.lengths.tolist())]
        texts = list(zip(ids, batch.formats.tolist(), strict=True))
        for part in batch.parts:
            for number, members in enumerate(part.members().tolist()):
                label = str(part.label[number].tolist()) if isinstance(part, LabelPart) else ""
                named.append((part.task, [texts[row] for row in members], label))
    return sorted(named)


@pytest.mark.parametrize("apart", [set(), {"near"}, {"level", "near"}])
def test_micro_batches_are_whole_examples_and_do_not_mix_tasks_that_stay_apart(apart):
    batch = task_batch()
    micro_batches = batch.split(9, apart)
    assert len(micro_batches) > 2
    assert all(part.rows.tokens <= 9 for part in micro_batches)
    assert examples(micro_batches) == examples([batch])
    mixed = [{part.task in apart for part in one.parts} for one in micro_batches]
    assert all(len(kinds) == 1 for kinds in mixed)
    assert mixed == sorted(mixed, reverse=True, key=max)
    assert batch.split(None, apart) == [batch]


def test_tasks_without_a_selected_example_are_left_out():
    part = task_batch().select(slice(1, 4))
    assert [(one.task, len(one)) for one in part.parts] == [("level", 1), ("field", 2)]
    assert len(part) == 3
    assert part.formats.tolist() == [1, 0, 0]


def test_the_largest_batch_keeps_the_share_of_every_task():
    parts = (
        TripletPart("near", column(0, 1), column(2, 2), column(1, 0)),
        LabelPart("field", column(2, 3), column(1, 0)),
    )
    batch = TaskBatch(rows(3, 2, 4, 2), column(4, 4, 4, 1), parts, 0)
    largest = batch.largest(4, 16)
    assert [len(part) for part in largest.parts] == [2, 2]
    assert largest.formats.tolist() == [4] * 6 + [4] * 2
    assert largest.parts[1].text.tolist() == [6, 7]
    assert largest.rows.lengths.tolist() == [16] * 8
    assert len(batch.largest(1, 16).parts) == 2


def test_the_parts_of_a_batch_of_tasks_move_with_it():
    index = torch.tensor([0])
    parts = (TripletPart("a", index, index, index), LabelPart("b", index, torch.tensor([0.5])))
    batch = TaskBatch(rows(2, 1), torch.tensor([0, 1]), parts, 3)
    moved = batch.to("meta")
    assert len(moved) == 2
    assert [part.task for part in moved.parts] == ["a", "b"]
    assert moved.formats is batch.formats
    values = [getattr(part, f.name) for part in moved.parts for f in fields(part)]
    assert all(value.device.type == "meta" for value in values if isinstance(value, torch.Tensor))
