import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.errors import UserError
from sciembed_train.sampling.plan import Plan, epoch_order, first_indices


@given(
    st.integers(1, 4), st.integers(1, 5), st.integers(0, 40), st.integers(0, 9), st.integers(0, 60)
)
@settings(max_examples=60, deadline=None)
def test_ranks_together_have_what_one_process_has_in_its_order(world, share, more, seed, step):
    batch, n = world * share, world * share + more
    one = Plan(n, batch, seed)
    plan = Plan(n, batch, seed, world)
    together = [plan.indices(step)[plan.share(rank)] for rank in range(world)]
    assert np.concatenate(together).tolist() == one.indices(step)[one.share(0)].tolist()
    assert {len(part) for part in together} == {batch // world}


@given(st.integers(1, 12), st.integers(0, 30), st.integers(0, 9), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_an_epoch_has_no_example_twice_and_leaves_out_less_than_a_batch(batch, more, seed, epoch):
    plan = Plan(batch + more, batch, seed)
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    seen = np.concatenate([plan.indices(s) for s in steps])
    assert len(np.unique(seen)) == len(seen) == plan.examples - plan.left_out
    assert plan.left_out < batch
    assert seen.min() >= 0
    assert seen.max() < plan.examples


def test_every_epoch_and_seed_has_its_own_order():
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert epoch_order(50, 1, 2).tolist() == epoch_order(50, 1, 2).tolist()


def test_a_step_has_the_same_examples_whatever_was_asked_before():
    plan = Plan(20, 4, 3, 2)
    expected = [epoch_order(20, 3, step // 5)[step % 5 * 4 :][:4].tolist() for step in range(15)]
    for step in (7, 0, 14, 7, 8, 2):
        assert plan.indices(step).tolist() == expected[step]
        assert len(plan._order) == 1  # no order but the latest is kept


def mined(n_queries, rng):
    """Queries of one to five triplets, as SPECTER2's mining leaves them, in no order."""
    return rng.permutation(np.repeat(np.arange(n_queries) * 7, rng.integers(1, 6, n_queries)))


@given(st.integers(2, 30), st.sampled_from([1, 2, 4]), st.integers(1, 6), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_grouped_queries_stand_together_and_every_example_once(n_queries, world, share, seed):
    queries = mined(n_queries, np.random.default_rng(seed))
    batch = min(world * share, len(queries) // world * world)
    plan = Plan(len(queries), batch, seed, world, queries)
    one = Plan(len(queries), batch, seed, 1, queries)
    for epoch in range(2):
        order = plan.order(epoch)
        assert sorted(order.tolist()) == list(range(len(queries)))
        changes = np.count_nonzero(np.diff(queries[order]))
        assert changes == n_queries - 1, "a query's examples are apart"
        for step in range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch):
            together = [plan.indices(step)[plan.share(rank)] for rank in range(world)]
            assert np.concatenate(together).tolist() == one.indices(step).tolist()
            begun = queries[order[(step % plan.steps_per_epoch) * batch :][:batch]]
            assert queries[one.indices(step)].tolist() == begun.tolist()


def test_grouped_queries_have_another_order_in_each_epoch_and_whatever_was_asked_before():
    queries = mined(12, np.random.default_rng(0))
    plan = Plan(len(queries), 4, 3, queries=queries)
    orders = {tuple(queries[plan.order(epoch)]) for epoch in range(4)}
    assert len(orders) == 4
    expected = [plan.indices(step).tolist() for step in range(3 * plan.steps_per_epoch)]
    for step in (7, 0, len(expected) - 1, 7, 2):
        assert plan.indices(step).tolist() == expected[step]


def test_a_step_of_grouped_queries_has_fewer_distinct_papers():
    rng = np.random.default_rng(4)
    queries = np.repeat(np.arange(40), 5)
    positives, negatives = rng.integers(40, 400, 200), rng.integers(40, 400, 200)
    triplets = np.stack([queries, positives, negatives], axis=1)

    def papers(plan):
        steps = range(plan.steps_per_epoch)
        return sum(len(np.unique(triplets[plan.indices(step)])) for step in steps)

    shuffled, grouped = Plan(200, 20, 0), Plan(200, 20, 0, queries=queries)
    # 20 triplets of 4 queries in place of those of about 16.
    assert papers(grouped) < papers(shuffled) - 10 * 8


def test_a_batch_that_does_not_divide_is_refused_with_advice():
    with pytest.raises(UserError) as caught:
        Plan(1000, 100, 0, 8)
    assert str(caught.value) == (
        "batch_size=100 cannot be shared by 8 ranks; use a multiple of 8, such as 96 or 104."
    )
    with pytest.raises(UserError, match=r"such as 8\."):
        Plan(1000, 3, 0, 8)


def test_too_few_examples_are_refused():
    with pytest.raises(UserError, match=r"7 training examples, fewer than one batch.*batch_size=8"):
        Plan(7, 8, 0)


def test_the_first_examples_are_those_of_the_first_steps():
    plan = Plan(20, 6, 0)
    order = epoch_order(20, 0, 0)
    for count in (0, 1, 6, 13):
        assert first_indices(plan, count).tolist() == order[:count].tolist()
    assert first_indices(plan, 50).tolist() == order[:18].tolist()  # two fill no step
