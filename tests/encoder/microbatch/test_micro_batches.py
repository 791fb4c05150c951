import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.batch import Sentences, TokenRows
from sciembed_train.encoder.microbatch.micro_batches import encode_micro_batches, plan_micro_batches

lengths_of = st.lists(st.integers(1, 60), max_size=40)


@settings(deadline=None)
@given(lengths_of, st.integers(1, 200), st.booleans())
def test_a_plan_holds_every_row_once_sorted_and_within_its_budget(lengths, budget, padded):
    plan = plan_micro_batches(lengths, budget, padded)
    assert sorted(plan.order.tolist()) == list(range(len(lengths)))
    sizes = [lengths[i] for i in plan.order]
    assert sizes == sorted(lengths, reverse=True)
    spans = plan.spans()
    assert [i for a, b in spans for i in range(a, b)] == list(range(len(lengths)))
    for a, b in spans:
        cost = (b - a) * sizes[a] if padded else sum(sizes[a:b])
        assert b - a == 1 or cost <= budget
    # No micro-batch could have taken the next row as well.
    for (a, b), _ in itertools.pairwise(spans):
        grown = (b + 1 - a) * sizes[a] if padded else sum(sizes[a : b + 1])
        assert grown > budget


@settings(deadline=None)
@given(lengths_of.filter(len), st.integers(1, 200), st.booleans())
def test_pieces_come_back_in_the_given_order(lengths, budget, padded):
    rows = TokenRows.from_lists([[i] * n for i, n in enumerate(lengths)])
    micro_batches = []

    def encode(micro_batch):
        assert micro_batch.wanted is None
        assert micro_batch.sentences is None
        micro_batches.append(len(micro_batch.sizes))
        texts = micro_batch.rows.ids.split(micro_batch.sizes)
        return torch.stack([text.float().mean() for text in texts]).unsqueeze(1), None

    done = []
    plan = plan_micro_batches(lengths, budget, padded)
    vectors, states = encode_micro_batches(rows, plan, encode, done.append)
    assert vectors[:, 0].tolist() == list(range(len(lengths)))
    assert states is None
    assert done == micro_batches
    assert len(micro_batches) == len(plan.ends)


@settings(deadline=None)
@given(lengths_of.filter(len), st.integers(1, 200), st.booleans(), st.data())
def test_states_come_back_in_the_order_of_their_positions(lengths, budget, padded, data):
    total = sum(lengths)
    rows = TokenRows(torch.arange(total), torch.tensor(lengths))
    positions = data.draw(st.lists(st.integers(0, total - 1), max_size=20))
    seen = []

    def encode(micro_batch):
        seen.append(micro_batch.wanted.tolist())
        # Each token's id is its own position, and so is its state.
        states = micro_batch.rows.ids[micro_batch.wanted].float().unsqueeze(1)
        return torch.zeros(len(micro_batch.sizes), 1), states

    plan = plan_micro_batches(lengths, budget, padded)
    _, states = encode_micro_batches(
        rows, plan, encode, positions=torch.tensor(positions, dtype=torch.long)
    )
    assert states is not None
    assert states[:, 0].tolist() == positions
    assert sum(map(len, seen)) == len(positions)
    assert all(few == sorted(few) for few in seen)


@settings(deadline=None)
@given(lengths_of.filter(len), st.integers(1, 200), st.booleans(), st.data())
def test_vectors_of_sentences_come_back_in_the_order_of_the_texts(lengths, budget, padded, data):
    rows = TokenRows(torch.arange(sum(lengths)), torch.tensor(lengths))
    spans, counts, expected = [], [], []
    for text, size in zip(rows.ids.split(lengths), lengths, strict=True):
        counts.append(data.draw(st.integers(1, 3)))
        for _ in range(counts[-1]):
            start = data.draw(st.integers(0, size - 1))
            spans.append((start, data.draw(st.integers(1, size - start))))
            expected.append(text[start : start + spans[-1][1]].tolist())
    sentences = Sentences(*torch.tensor(spans).T, torch.tensor(counts))

    def encode(micro_batch):
        at = micro_batch.sentences.positions(micro_batch.rows.lengths)
        found = micro_batch.rows.ids[at].split(micro_batch.sentences.lengths.tolist())
        return torch.stack([torch.stack([f.min(), f.max()]).float() for f in found]), None

    plan = plan_micro_batches(lengths, budget, padded)
    vectors, _ = encode_micro_batches(rows, plan, encode, sentences=sentences)
    assert vectors.tolist() == [[one[0], one[-1]] for one in expected]


@pytest.mark.parametrize(
    ("starts", "sizes", "counts"),
    [
        ([0, 3], [3, 2], [1, 1]),
        ([0, 0], [3, 0], [1, 1]),
        ([-1, 0], [3, 1], [1, 1]),
        ([0, 0, 0], [1, 1, 1], [1, 1]),
    ],
)
def test_a_sentence_that_is_not_in_its_text_is_refused(starts, sizes, counts):
    sentences = Sentences(*map(torch.tensor, (starts, sizes, counts)))
    rows = TokenRows(torch.arange(9), torch.tensor([5, 4]))
    with pytest.raises(ValueError, match="inside of its text"):
        encode_micro_batches(
            rows,
            plan_micro_batches([5, 4], 9, False),
            lambda micro_batch: None,
            None,
            None,
            sentences,
        )


def test_equal_lengths_keep_their_order():
    assert plan_micro_batches([5, 9, 5, 9], 100, False).order.tolist() == [1, 3, 0, 2]


def test_an_array_of_lengths_plans_as_a_list_does():
    lengths = [3, 50, 7, 7]
    a, b = (plan_micro_batches(x, 20, True) for x in (lengths, np.array(lengths)))
    assert a.order.tolist() == b.order.tolist()
    assert a.ends == b.ends


def test_a_budget_below_one_token_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        plan_micro_batches([3], 0, False)
