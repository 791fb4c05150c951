import torch

from sciembed_train.batch import (
    DevSpans,
    DevTasks,
    DevTriplets,
    LabelPart,
    PaperBatch,
    TaskKind,
    TokenRows,
    TripletPart,
)

INDEX = torch.tensor([0, 1, 0])


def test_held_out_examples_are_counted():
    parts = (TripletPart("a", INDEX, INDEX, INDEX), LabelPart("b", INDEX[:1], torch.tensor([0.5])))
    kinds = (TaskKind("a", "triplet"), TaskKind("b", "number"))
    assert len(DevTriplets(INDEX, INDEX, INDEX, papers=2)) == 3
    assert len(DevTasks(kinds, parts, texts=2)) == 4
    assert len(DevSpans(documents=7, anchors=2, positives=3)) == 7


def test_formats_and_lengths_of_held_out_papers_stay_on_the_host():
    batch = PaperBatch(TokenRows.from_lists([[1, 2], [3]]), torch.tensor([5, 4]), formats=INDEX[:2])
    moved = batch.to("meta")
    assert moved.slots.device.type == moved.rows.ids.device.type == "meta"
    assert moved.formats is batch.formats
    assert moved.rows.lengths is batch.rows.lengths
