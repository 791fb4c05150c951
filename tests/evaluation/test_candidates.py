import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.evaluation.candidates import dev_and_test, draw_candidates, hash_order

IDS = [f"p{i}" for i in range(200)]


def wanted_of(queries, seed=0, most=6):
    rng = np.random.default_rng(seed)
    return [
        np.sort(rng.choice(len(IDS), rng.integers(1, most), replace=False)) for _ in range(queries)
    ]


@given(st.integers(2, 199), st.integers(1, 60), st.integers(0, 3))
def test_a_sample_has_the_relevant_papers_of_the_queries_that_are_kept(sample, queries, seed):
    wanted = wanted_of(queries, seed)
    kept, candidates = draw_candidates(IDS, IDS[:queries], wanted, sample, seed)
    relevant = set(np.concatenate([wanted[query] for query in kept]).tolist())
    assert relevant <= set(candidates.tolist())
    assert len(candidates) == max(sample, len(relevant))
    assert list(kept) == sorted(set(kept.tolist()))
    assert list(candidates) == sorted(set(candidates.tolist()))
    assert len(kept) == 1 or (len(relevant) <= sample // 2 and len(kept) <= sample // 2)


def test_a_query_with_more_relevant_papers_than_the_sample_keeps_them_all():
    kept, candidates = draw_candidates(IDS, ["q"], [np.arange(50)], 20)
    assert kept.tolist() == [0]
    assert candidates.tolist() == list(range(50))


def test_a_query_s_place_does_not_depend_on_the_others():
    order = [IDS[at] for at in hash_order(IDS, 0)]
    some = [paper for paper in IDS if int(paper[1:]) % 3]
    assert [some[at] for at in hash_order(some, 0)] == [p for p in order if p in some]
    assert order != [IDS[at] for at in hash_order(IDS, 1)]


def test_samples_differ_by_seed_alone():
    wanted = wanted_of(30)
    one, again, other = (draw_candidates(IDS, IDS[:30], wanted, 60, s)[1] for s in (0, 0, 1))
    assert one.tolist() == again.tolist() != other.tolist()
    assert len(other) == pytest.approx(60)


@settings(max_examples=30)
@given(st.lists(st.text(min_size=1, max_size=5), unique=True), st.integers(0, 3))
def test_halves_are_disjoint_whole_and_independent_of_the_others(queries, seed):
    dev, test = dev_and_test(queries, seed)
    assert sorted(dev + test) == sorted(queries)
    assert dev == [q for q in queries if q in set(dev)]
    for query in queries[:3]:
        assert (dev_and_test([query], seed)[0] == [query]) == (query in dev)


def test_halves_are_about_equal_and_differ_by_seed():
    queries = [f"W{i}" for i in range(2000)]
    dev, test = dev_and_test(queries)
    assert 900 < len(dev) < 1100
    assert dev != dev_and_test(queries, 1)[0]
    assert not set(dev) & set(test)
