import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.corpus.store import CORPUS_VERSION, Corpus, save_info
from sciembed_train.errors import UserError
from sciembed_train.inputs import InputFormat, TextTokenizer
from sciembed_train.sampling.base import Reading
from sciembed_train.sampling.plan import Plan, epoch_order
from sciembed_train.sampling.triplets import TripletSampling, triplet_batch


class Letters:
    """A token store in which paper p is p + 1 times the token 100 + p."""

    def rows(self, papers, max_length):
        lengths = np.minimum(papers + 1, max_length)
        return np.repeat(100 + papers, lengths), lengths


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


def test_a_batch_holds_each_paper_once_and_rebuilds_its_triplets():
    triplets = np.array([[4, 1, 2], [4, 2, 0], [3, 1, 0], [4, 1, 3]], dtype=np.int32)
    batch = triplet_batch(Letters(), triplets, np.array([3, 0, 1]), max_length=4, step=9)
    assert batch.step == 9
    assert len(batch) == 3
    assert batch.rows.lengths.tolist() == [1, 2, 3, 4, 4]
    starts = np.cumsum([0, *batch.rows.lengths.tolist()[:-1]])
    paper = (batch.rows.ids.numpy()[starts] - 100).tolist()
    columns = (batch.anchor, batch.positive, batch.negative)
    rebuilt = [[paper[i] for i in column.tolist()] for column in columns]
    assert np.array(rebuilt).T.tolist() == [[4, 1, 3], [4, 1, 2], [4, 2, 0]]


def test_full_texts_alone_are_refused_before_anything_is_asked_of_them(tmp_path, tiny_bert):
    with pytest.raises(UserError, match=r"data\.fulltexts is not used by .*TripletSampling"):
        TripletSampling.check_raw({"fulltexts": "x.txt"}, "auto")
    save_info(tmp_path, {"version": CORPUS_VERSION, "counts": {"papers": 0, "documents": 3}})
    reading = Reading(TextTokenizer.load(tiny_bert), InputFormat(), 16, seed=0)
    with pytest.raises(UserError, match="holds no triplets"):
        TripletSampling().open(Corpus.open(tmp_path), reading, None)
