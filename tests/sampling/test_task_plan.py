from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sciembed_train.errors import UserError
from sciembed_train.sampling.task_plan import PublishedPlan, TaskPlan, round_robin, units


def names(sizes):
    return tuple(f"task{i}" for i in range(len(sizes)))


def plan(sizes, batch_size, world_size=1, seed=0, cap=None):
    return TaskPlan(names(sizes), tuple(sizes), batch_size, seed, world_size, cap)


def task_of(indices, sizes):
    return np.searchsorted(np.cumsum(sizes), indices, side="right")


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(40, 3_000), min_size=1, max_size=8),
    per_rank=st.integers(1, 40),
    world_size=st.sampled_from([1, 2, 3, 4, 8]),
    step=st.integers(0, 400),
)
def test_every_rank_has_every_task_in_every_step_in_the_same_number(
    sizes, per_rank, world_size, step
):
    batch_size = per_rank * world_size
    if per_rank < len(sizes):
        with pytest.raises(UserError, match=f"Choose a batch_size of {len(sizes) * world_size} or"):
            plan(sizes, batch_size, world_size)
        return
    assume(batch_size <= min(sizes))  # no task runs dry
    made = plan(sizes, batch_size, world_size)
    found = made.indices(step)
    assert len(found) == batch_size == sum(made.quotas)
    for rank in range(world_size):
        mine = Counter(task_of(found[made.share(rank)], sizes).tolist())
        assert mine == {i: quota // world_size for i, quota in enumerate(made.quotas)}
    shares = np.concatenate([found[made.share(rank)] for rank in range(world_size)])
    assert (shares == found).all()


@pytest.mark.parametrize("batch_size", [256, 64, 40, 24])
def test_the_steps_do_not_depend_on_the_number_of_ranks(batch_size):
    sizes = [700, 120, 90]
    alone = plan(sizes, batch_size)
    for world_size in (2, 4, 8):
        shared = plan(sizes, batch_size, world_size)
        for step in (0, 3, 200):
            assert (shared.indices(step) == alone.indices(step)).all()


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 10_000), min_size=1, max_size=10), more=st.integers(0, 60))
def test_units_are_shared_in_proportion_and_each_has_one(counts, more):
    total = len(counts) + more
    found = units(counts, total)
    assert sum(found) == total
    exact = [total * count / sum(counts) for count in counts]
    assert min(found) >= 1
    # Who has more than one has not a whole unit more than it should.
    for want, have in zip(exact, found, strict=True):
        assert have == 1 or have < want + 1
    if min(exact) >= 1:
        assert all(abs(want - have) < 1 for want, have in zip(exact, found, strict=True))


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(8, 200), min_size=1, max_size=4),
    seed=st.integers(0, 5),
)
def test_each_task_goes_through_its_own_examples_and_begins_again(sizes, seed):
    made = plan(sizes, 8 * len(sizes), seed=seed)
    steps = 3 * made.steps_per_epoch
    seen = np.concatenate([made.indices(step) for step in range(steps)])
    first = 0
    for i, size in enumerate(sizes):
        mine = seen[(seen >= first) & (seen < first + size)] - first
        assert len(mine) == steps * made.quotas[i]
        turns = [mine[at : at + size] for at in range(0, len(mine), size)]
        for turn in turns[:-1]:
            assert sorted(turn) == list(range(size))
        if size > 20 and len(turns) > 2:
            assert (turns[0] != turns[1]).any()
        # An epoch is as long as the task that takes longest to come through.
        assert made.steps_per_epoch >= size // made.quotas[i]
        first += size
    assert made.steps_per_epoch == max(
        size // quota for size, quota in zip(sizes, made.quotas, strict=True)
    )


def test_a_step_is_the_same_whenever_it_is_asked_for():
    sizes = [100, 33]
    in_order, anew = plan(sizes, 16), plan(sizes, 16)
    steps = [in_order.indices(step) for step in range(60)]
    for step in (59, 0, 20, 21, 5):
        assert (anew.indices(step) == steps[step]).all()
    other = plan(sizes, 16, seed=1)
    assert (other.indices(0) != steps[0]).any()


def test_tasks_give_steps_in_proportion_to_their_sizes_or_to_the_cap():
    sizes = [600, 300, 100]
    made = plan(sizes, 80)
    assert made.quotas == (48, 24, 8)
    assert (made.steps_per_epoch, made.left_out) == (12, 600 % 48 + 300 % 24 + 100 % 8)
    capped = plan(sizes, 80, cap=100)
    assert sorted(capped.quotas) == [24, 24, 32]
    assert capped.steps_per_epoch == 100 // 24
    least = plan([10_000, 7], 16)
    assert least.quotas == (12, 4)  # eight slices would ask for more than the seven there are
    assert least.steps_per_epoch == 10_000 // 12


def test_a_batch_that_ranks_cannot_share_is_refused_with_one_that_they_can():
    sizes = [50] * 5
    with pytest.raises(UserError, match=r"without an example in a step of one rank.* of 5 or more"):
        plan(sizes, 4)
    with pytest.raises(UserError, match=r"of 2 ranks.* of 10 or more"):
        plan(sizes, 8, world_size=2)
    with pytest.raises(UserError, match="multiple of 4, such as 20 or 24"):
        plan(sizes, 22, world_size=4)
    with pytest.raises(UserError, match="multiple of 4, such as 20"):
        plan(sizes, 6, world_size=4)
    with pytest.raises(UserError, match=r"task0 runs dry: it gives 91 .* and has 50 training"):
        plan([50, 20], 128)


def test_the_published_order_takes_turns_and_drops_who_is_at_its_end():
    sizes = [5, 2, 9]
    # Three tasks give round(6 / 3) = 2 each, then two tasks 3 each, and the last one 6.
    expected = [0, 1, 5, 6, 7, 8, 2, 3, 4, 9, 10, 11, 12, 13, 14, 15]
    assert round_robin(sizes, 6).tolist() == expected
    made = PublishedPlan(names(sizes), tuple(sizes), 6)
    assert (made.examples, made.steps_per_epoch, made.left_out) == (16, 2, 4)
    assert made.indices(0).tolist() == expected[:6]
    assert made.indices(3).tolist() == made.indices(1).tolist() == expected[6:12]
    assert made.epoch(3) == 1


@pytest.mark.parametrize(("tasks", "quota"), [(8, 4), (7, 5), (6, 5), (5, 6), (3, 11)])
def test_the_published_turns_have_the_published_sizes(tasks, quota):
    order = round_robin([1_000] * tasks, 32)
    assert Counter((order[: quota * tasks] // 1_000).tolist()) == dict.fromkeys(range(tasks), quota)
    assert sorted(order.tolist()) == list(range(1_000 * tasks))


def test_the_published_order_is_refused_where_it_would_never_end_or_lose_tasks():
    with pytest.raises(UserError, match=r"= round\(4 / 8\) = 0 examples of a task"):
        PublishedPlan(names([9] * 8), (9,) * 8, 4)
    with pytest.raises(UserError, match="which 2 ranks cannot share"):
        PublishedPlan(names([9]), (9,), 4, world_size=2)
    with pytest.raises(UserError, match="fewer than one batch"):
        PublishedPlan(names([2, 1]), (2, 1), 4)
