"""A batch class of one's own only declares its fields."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sciembed_train.batch import (
    EXAMPLE_ROWS,
    HOST,
    PER_EXAMPLE,
    PER_TEXT,
    ExampleBatch,
    TokenRows,
)
from sciembed_train.batch.example_batch import example_ranges


@dataclass(frozen=True)
class Quiz(ExampleBatch):
    """A question, two answers and a grade of each; a topic of each text."""

    rows: TokenRows
    topic: Tensor = field(metadata={**PER_TEXT, **HOST})
    question: Tensor = field(metadata=EXAMPLE_ROWS)
    answers: Tensor = field(metadata=EXAMPLE_ROWS)
    grades: Tensor = field(metadata=PER_EXAMPLE)
    every: Tensor
    step: int


def quiz():
    return Quiz(
        rows=TokenRows.from_lists([[1], [2, 2], [3, 3, 3], [4], [5, 5]]),
        topic=torch.tensor([10, 20, 30, 40, 50]),
        question=torch.tensor([4, 0, 2]),
        answers=torch.tensor([[1, 0], [1, 4], [3, 3]]),
        grades=torch.tensor([[0.5, 0.1], [1.0, 0.0], [0.2, 0.3]]),
        every=torch.tensor([7, 7]),
        step=3,
    )


def test_selected_examples_keep_their_texts_and_values():
    part = quiz().select(slice(0, 2))
    assert len(quiz()) == 3
    assert len(part) == 2
    assert part.rows.ids.tolist() == [1, 2, 2, 5, 5]
    assert part.topic.tolist() == [10, 20, 50]
    assert part.question.tolist() == [2, 0]
    assert part.answers.tolist() == [[1, 0], [1, 2]]
    assert torch.equal(part.grades, quiz().grades[:2])
    assert part.every.tolist() == [7, 7]
    assert part.step == 3


def test_micro_batches_are_consecutive_examples_within_the_limit():
    micro_batches = quiz().split(5)
    assert [len(batch) for batch in micro_batches] == [2, 1]
    assert [batch.rows.tokens for batch in micro_batches] == [5, 4]
    batch = quiz()
    assert batch.split(None) == [batch]
    assert batch.split(9) == [batch]


def test_the_largest_batch_has_a_full_text_for_every_member_of_every_example():
    batch = quiz().largest(4, 6)
    assert batch.rows.lengths.tolist() == [6] * 12
    assert sorted(batch.members().flatten().tolist()) == list(range(12))
    assert batch.answers.shape == (4, 2)
    assert torch.equal(batch.grades, quiz().grades[[0, 1, 2, 0]])
    assert len(batch.topic) == 12
    assert batch.every.tolist() == [7, 7]


def test_only_fields_of_the_host_stay_there():
    moved = quiz().to_device(torch.device("meta"))
    assert moved.answers.device.type == moved.rows.ids.device.type == "meta"
    assert moved.topic.device.type == moved.rows.lengths.device.type == "cpu"
    assert moved.step == 3


def test_a_text_of_several_examples_counts_once_in_a_range():
    lengths = torch.tensor([4, 3, 3, 9])
    members = torch.tensor([[0, 1], [0, 2], [0, 1], [3, 3], [2, 2]])
    assert example_ranges(lengths, members, 10) == [slice(0, 3), slice(3, 4), slice(4, 5)]
    assert example_ranges(lengths, members, 1) == [slice(n, n + 1) for n in range(5)]
