import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sciembed_train.errors import UserError
from sciembed_train.sampling.mixture_plan import MixturePlan, shared


def plan(sizes=(40, 100, 16), weights=(0.5, 0.25, 0.25), batch_size=8, **settings):
    names = tuple("abcdef"[: len(sizes)])
    return MixturePlan(names, sizes, weights, batch_size, **{"seed": 3, **settings})


def sources(plan, step):
    return np.searchsorted(np.cumsum(plan.sizes), plan.indices(step), side="right")


def test_a_step_has_one_source_as_often_as_its_weight_says():
    one = plan()
    steps = [sources(one, step) for step in range(2 * one.steps_per_epoch)]
    assert all(len(set(step.tolist())) == 1 for step in steps)
    epochs = np.array([step[0] for step in steps]).reshape(2, -1)
    assert one.steps_per_epoch == 156 // 8 == 19
    for epoch in epochs:
        counts = np.bincount(epoch, minlength=3)
        assert np.abs(counts - 19 * np.array(one.weights)).max() < 1
    assert epochs[0].tolist() != epochs[1].tolist()
    assert [one.source(step) for step in range(38)] == epochs.reshape(-1).tolist()


def test_mixed_steps_have_pairs_of_every_source_by_weight():
    mixed = plan(sources_per_batch="mixed")
    drawn = np.concatenate([sources(mixed, step) for step in range(mixed.steps_per_epoch)])
    assert np.bincount(drawn).tolist() == [76, 38, 38]
    assert len({tuple(np.bincount(s, minlength=3)) for s in drawn.reshape(-1, 8)}) > 1


@pytest.mark.parametrize("kind", ["one", "mixed"])
def test_a_source_comes_through_all_its_pairs_before_it_begins_again(kind):
    made = plan(sources_per_batch=kind)
    drawn = np.concatenate([made.indices(step) for step in range(100)])
    first = np.cumsum([0, *made.sizes])
    for source, size in enumerate(made.sizes):
        own = drawn[(drawn >= first[source]) & (drawn < first[source + 1])] - first[source]
        once = size // 8 * 8 if kind == "one" else size  # what fills no batch waits for a turn
        turns = [own[i : i + once] for i in range(0, len(own) - once + 1, once)]
        assert turns
        for turn in turns:
            assert len(set(turn.tolist())) == once
        assert len(set(own.tolist())) == size


@pytest.mark.parametrize("kind", ["one", "mixed"])
def test_a_step_depends_on_seed_and_step_alone(kind):
    made = plan(sources_per_batch=kind)
    order = [made.indices(step).tolist() for step in range(60)]
    again = plan(sources_per_batch=kind)
    for step in reversed(range(60)):
        assert again.indices(step).tolist() == order[step]
    on_four = plan(sources_per_batch=kind, world_size=4)
    assert [on_four.indices(step).tolist() for step in range(60)] == order
    assert [on_four.share(rank) for rank in range(2)] == [slice(0, 2), slice(2, 4)]
    assert plan(sources_per_batch=kind, seed=4).indices(0).tolist() != order[0]


@given(st.integers(1, 200), st.lists(st.floats(0.01, 10), min_size=1, max_size=6))
def test_slots_are_shared_whole(total, weights):
    counts = shared(total, tuple(weights))
    assert counts.sum() == total
    if total >= len(weights):
        assert counts.min() >= 1


def test_batches_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="source c has 16 training pairs"):
        plan(batch_size=20)
    assert plan(batch_size=20, sources_per_batch="mixed").steps_per_epoch == 7
    with pytest.raises(UserError, match="cannot be shared by 3 ranks"):
        plan(world_size=3)
    with pytest.raises(UserError, match="fewer than one batch"):
        plan(batch_size=200, sources_per_batch="mixed")
    with pytest.raises(UserError, match="must be 1 or more"):
        plan(batch_size=0)
