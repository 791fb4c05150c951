import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.batches import TokenRows
from sciembed_train.encoder.microbatch import encode_in_pieces, plan_pieces

lengths_of = st.lists(st.integers(1, 60), max_size=40)


@settings(deadline=None)
@given(lengths_of, st.integers(1, 200), st.booleans())
def test_a_plan_holds_every_row_once_sorted_and_within_its_budget(lengths, budget, padded):
    plan = plan_pieces(lengths, budget, padded)
    assert sorted(plan.order.tolist()) == list(range(len(lengths)))
    sizes = [lengths[i] for i in plan.order]
    assert sizes == sorted(lengths, reverse=True)
    spans = plan.spans()
    assert [i for a, b in spans for i in range(a, b)] == list(range(len(lengths)))
    for a, b in spans:
        cost = (b - a) * sizes[a] if padded else sum(sizes[a:b])
        assert b - a == 1 or cost <= budget
    # No piece could have taken the next row as well.
    for (a, b), _ in itertools.pairwise(spans):
        grown = (b + 1 - a) * sizes[a] if padded else sum(sizes[a : b + 1])
        assert grown > budget


@settings(deadline=None)
@given(lengths_of.filter(len), st.integers(1, 200), st.booleans())
def test_pieces_come_back_in_the_given_order(lengths, budget, padded):
    rows = TokenRows.from_lists([[i] * n for i, n in enumerate(lengths)])
    pieces = []

    def encode(piece, sizes, wanted):
        assert piece.lengths.tolist() == sizes
        assert wanted is None
        pieces.append(len(sizes))
        return torch.stack([p.float().mean() for p in piece.ids.split(sizes)]).unsqueeze(1), None

    done = []
    plan = plan_pieces(lengths, budget, padded)
    vectors, states = encode_in_pieces(rows, lengths, plan, encode, done.append)
    assert vectors[:, 0].tolist() == list(range(len(lengths)))
    assert states is None
    assert done == pieces
    assert len(pieces) == len(plan.ends)


@settings(deadline=None)
@given(lengths_of.filter(len), st.integers(1, 200), st.booleans(), st.data())
def test_states_come_back_in_the_order_of_their_positions(lengths, budget, padded, data):
    total = sum(lengths)
    rows = TokenRows(torch.arange(total), torch.tensor(lengths))
    positions = data.draw(st.lists(st.integers(0, total - 1), max_size=20))
    seen = []

    def encode(piece, sizes, wanted):
        seen.append(wanted.tolist())
        # Each token's id is its own position, and so is its state.
        return torch.zeros(len(sizes), 1), piece.ids[wanted].float().unsqueeze(1)

    plan = plan_pieces(lengths, budget, padded)
    _, states = encode_in_pieces(
        rows, lengths, plan, encode, positions=torch.tensor(positions, dtype=torch.long)
    )
    assert states is not None
    assert states[:, 0].tolist() == positions
    assert sum(map(len, seen)) == len(positions)
    assert all(few == sorted(few) for few in seen)


def test_equal_lengths_keep_their_order():
    assert plan_pieces([5, 9, 5, 9], 100, False).order.tolist() == [1, 3, 0, 2]


def test_an_array_of_lengths_plans_as_a_list_does():
    lengths = [3, 50, 7, 7]
    a, b = (plan_pieces(x, 20, True) for x in (lengths, np.array(lengths)))
    assert a.order.tolist() == b.order.tolist()
    assert a.ends == b.ends


def test_a_budget_below_one_token_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        plan_pieces([3], 0, False)
