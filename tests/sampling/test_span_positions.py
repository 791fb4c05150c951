import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.sampling.span_positions import (
    HELD_OUT,
    PER_ANCHOR,
    PER_POSITIVE,
    TRAIN,
    Rule,
    anchor_spans,
    positive_spans,
    uniforms,
)

STRATEGIES = ("any", "adjacent", "subsuming")
ALMOST_ONE = 1 - 2.0**-53  # the largest number that is drawn


@st.composite
def cases(draw):
    """A rule, and lengths of documents that are long enough for it, skipping or adapting."""
    shortest = draw(st.integers(1, 12))
    longest = draw(st.integers(shortest, 40))
    anchors = draw(st.integers(1, 5))
    rule = Rule(
        *(anchors, draw(st.integers(0, 3)), longest, shortest, draw(st.sampled_from(STRATEGIES))),
        reproduce=draw(st.booleans()),
    )
    least = 2 * anchors * draw(st.sampled_from([shortest, longest]))
    n = draw(st.lists(st.integers(least, 3 * least + 50), min_size=1, max_size=6))
    return rule, np.array(n), draw(st.integers(0, 2**40)), draw(st.integers(0, 9))


def drawn(rule, n, seed=0, epoch=0):
    return rule.spans(n, uniforms(seed, TRAIN, epoch, np.arange(len(n)), rule.uniforms))


@given(cases())
@settings(max_examples=300, deadline=None)
def test_spans_lie_where_the_rules_say(case):
    rule, n, seed, epoch = case
    starts, lengths, near, sizes = drawn(rule, n, seed, epoch)
    assert starts.shape == lengths.shape == (len(n), rule.anchors)
    assert near.shape == sizes.shape == (len(n), rule.anchors, rule.positives)
    for b, total in enumerate(n.tolist()):
        most = min(rule.max_span, total // (2 * rule.anchors))
        spans = sorted(zip(starts[b].tolist(), lengths[b].tolist(), strict=True))
        for start, length in spans:
            assert rule.min_span <= length <= most
            assert 0 <= start <= start + length <= total
            assert start // most == (start + length - 1) // most  # within its bucket
        for (start, length), (after, _) in pairwise(spans):
            assert after - (start + length) >= most  # a whole bucket lies between
        for i in range(rule.anchors):
            first, last = starts[b, i], starts[b, i] + lengths[b, i]
            for start, size in zip(near[b, i].tolist(), sizes[b, i].tolist(), strict=True):
                assert 0 <= start < start + size <= total
                assert start + size >= first
                assert start <= last
                assert size <= most
                if rule.strategy != "adjacent":
                    assert size >= rule.min_span
                if rule.strategy == "subsuming":
                    assert first <= start <= start + size <= last
                if rule.strategy == "adjacent":
                    assert (start + size == first) != (start == last)
                    assert size >= min(rule.min_span, max(first, total - last))


def loops(rule, n, u):
    """Section 3.1 of the paper and its code's defaults in plain loops, for one document."""
    most = min(rule.max_span, n // (2 * rule.anchors))
    u = iter(u)

    def length(least, most, which):
        return least + math.floor((most - least) * sorted(next(u) for _ in range(5))[which])

    buckets = [b * most for b in range(n // most)]
    anchors, positives = [], []
    for i in range(rule.anchors):
        size = length(rule.min_span, most, 3)
        pick, left = next(u), rule.anchors - i
        if len(buckets) // left < left:
            place = 0 if pick < 0.5 else len(buckets) - 1
        else:
            place = math.floor(pick * len(buckets))
        bucket = buckets[place]
        anchors.append((bucket + math.floor(next(u) * (most - size + 1)), size))
        if rule.reproduce:  # by the places in the list, whatever was taken out of it before
            buckets = [b for at, b in enumerate(buckets) if abs(at - place) > 1]
        else:
            buckets = [b for b in buckets if b not in (bucket - most, bucket, bucket + most)]
    for start, size in anchors:
        for _ in range(rule.positives):
            end, cap, least = start + size, most, rule.min_span
            if rule.strategy == "subsuming":
                cap = size
            if rule.strategy == "adjacent":
                cap = min(most, max(start, n - end))
                least = min(least, cap)
            near = length(least, cap, 1)
            if rule.strategy == "adjacent":
                valid = [s for s in (start - near, end) if s >= 0 and s + near <= n]
                if rule.reproduce:  # never the first token; where nothing is left, it fails
                    valid = [s for s in valid if s > 0] or valid
            elif rule.strategy == "subsuming":
                valid = range(start, end - near + 1)
            else:
                valid = range(max(0, start - near), min(end, n - near) + 1)
            positives.append((valid[math.floor(next(u) * len(valid))], near))
    return anchors, positives


@given(cases())
@settings(max_examples=300, deadline=None)
def test_spans_are_those_of_plain_loops(case):
    rule, n, seed, epoch = case
    u = uniforms(seed, TRAIN, epoch, np.arange(len(n)), rule.uniforms)
    starts, lengths, near, sizes = rule.spans(n, u)
    for b, total in enumerate(n.tolist()):
        anchors, positives = loops(rule, total, u[b].tolist())
        assert list(zip(starts[b].tolist(), lengths[b].tolist(), strict=True)) == anchors
        found = zip(near[b].ravel().tolist(), sizes[b].ravel().tolist(), strict=True)
        assert list(found) == positives


@given(st.integers(1, 12), st.integers(0, 2000), st.integers(0, 99), st.booleans())
@settings(max_examples=200, deadline=None)
def test_buckets_last_for_any_number_of_anchors(anchors, more, seed, reproduce):
    rule = Rule(anchors, 0, 7, 3, "any", reproduce)
    starts, _, _, _ = drawn(rule, np.full(20, 14 * anchors + more), seed)
    buckets = np.sort(starts // 7, axis=1)
    assert (np.diff(buckets, axis=1) >= 2).all()


@pytest.mark.parametrize("draw", [0.0, ALMOST_ONE])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_outermost_draws_stay_in_the_document(draw, strategy):
    rule = Rule(2, 1, 512, 32, strategy)
    for n in (2048, 2049, 5000, 10**9 + 7):
        starts, lengths, near, sizes = rule.spans(np.array([n]), np.full((1, rule.uniforms), draw))
        assert (starts >= 0).all()
        assert (starts + lengths <= n).all()
        assert (near >= 0).all()
        assert (near + sizes <= n).all()


# Distributions. Each value is sent through the distribution function that it should have; as
# values are whole numbers, a random share of the step of the function at the value is added. The
# result must be even between 0 and 1: the Kolmogorov-Smirnov distance, whose 0.1 % point is
# 1.95 / sqrt(count).


def beta42(x):
    return 5 * x**4 * (1 - x) + x**5


def beta24(x):
    return 1 - (1 - x) ** 5 - 5 * x * (1 - x) ** 4


def assert_even(values):
    values = np.sort(np.ravel(values))
    count = len(values)
    above = (np.arange(1, count + 1) / count - values).max()
    below = (values - np.arange(count) / count).max()
    assert max(above, below) < 1.95 / math.sqrt(count)


def through(function, lengths, least, most):
    """Lengths ``least + floor((most - least) b)`` through the distribution function of ``b``."""
    share = np.random.default_rng(0).random(lengths.shape)
    low = (lengths - least) / (most - least)
    high = np.minimum(1, (lengths - least + 1) / (most - least))
    return function(low) + share * (function(high) - function(low))


def placed(values, first, last):
    """Whole numbers between two bounds, spread evenly from 0 to 1."""
    share = np.random.default_rng(1).random(values.shape)
    return (values - first + share) / (last - first + 1)


MANY = np.full(20_000, 5000)


def test_the_check_of_distributions_can_fail():
    shares = np.sort(np.random.default_rng(0).random((20_000, 5)), axis=1)
    lengths = 32 + np.floor(480 * shares).astype(int)
    assert_even(through(beta42, lengths[:, 3], 32, 512))
    assert_even(through(beta24, lengths[:, 1], 32, 512))
    for wrong in (lengths[:, 2], lengths[:, 1], lengths[:, 3] + 10):
        with pytest.raises(AssertionError):
            assert_even(through(beta42, wrong, 32, 512))


def test_lengths_of_anchors_are_of_beta_4_2_and_of_positives_of_beta_2_4():
    starts, lengths, near, sizes = drawn(Rule(2, 2, 512, 32, "any"), MANY)
    assert_even(through(beta42, lengths, 32, 512))
    assert_even(through(beta24, sizes, 32, 512))
    assert lengths.mean() == pytest.approx(352 - 0.5, abs=2)
    assert sizes.mean() == pytest.approx(192 - 0.5, abs=2)
    # Places, each even within its own bounds.
    bucket = starts // 512 * 512
    assert_even(placed(starts, bucket, bucket + 512 - lengths))
    start, end = starts[..., None], (starts + lengths)[..., None]
    first, last = np.maximum(start - sizes, 0), np.minimum(end, 5000 - sizes)
    assert_even(placed(near, first, last))


def test_positives_within_their_anchor_are_of_beta_2_4_of_its_length():
    starts, lengths, near, sizes = drawn(Rule(2, 2, 512, 32, "subsuming"), MANY)
    assert_even(through(beta24, sizes, 32, lengths[..., None]))
    assert_even(placed(near, starts[..., None], (starts + lengths)[..., None] - sizes))


def test_positives_beside_their_anchor_take_either_side_alike_where_there_is_room():
    starts, lengths, near, sizes = drawn(Rule(2, 2, 512, 32, "adjacent"), MANY)
    start, end = starts[..., None], (starts + lengths)[..., None]
    assert_even(through(beta24, sizes, 32, np.minimum(512, np.maximum(start, 5000 - end))))
    both = (start - sizes >= 0) & (end + sizes <= 5000)
    share = (near < start)[both].mean()
    assert share == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(both.sum()))


def test_the_first_anchor_is_equally_often_in_every_bucket():
    starts, _, _, _ = drawn(Rule(2, 0, 512, 32, "any"), MANY)
    counts = np.bincount(starts[:, 0] // 512, minlength=9)
    assert len(counts) == 9
    expected = len(MANY) / 9
    assert ((counts - expected) ** 2 / expected).sum() < 26.1  # chi square, 8 degrees, 0.1 %


def test_adapted_lengths_follow_the_document():
    n = np.full(20_000, 400)  # 400 // 4 = 100
    _, lengths, _, sizes = drawn(Rule(2, 2, 512, 32, "any"), n)
    assert_even(through(beta42, lengths, 32, 100))
    assert_even(through(beta24, sizes, 32, 100))


# What the published code gets wrong.


@pytest.mark.parametrize(("reproduce", "left"), [(False, {0, 1, 2, 8}), (True, {0, 1, 8})])
def test_published_the_bucket_beyond_a_gap_goes_with_its_neighbour_in_the_list(reproduce, left):
    # Of nine buckets the first anchor takes 4, and 3 to 5 go. The second takes 6, and 5 to 7 go; in
    # the list of those left, 0 1 2 6 7 8, its neighbours are 2 and 7.
    draws = np.zeros((12, 3, PER_ANCHOR))
    draws[:, :, 5] = np.array([[4.5 / 9, 3.5 / 6, (k + 0.5) / 12] for k in range(12)])
    starts, _ = anchor_spans(np.full(12, 63), np.full(12, 7), 7, draws, reproduce)
    assert (starts[:, :2] == [28, 42]).all()
    assert set((starts[:, 2] // 7).tolist()) == left


@given(cases())
@settings(max_examples=100, deadline=None)
def test_with_two_anchors_the_published_places_are_the_same(case):
    rule, _, seed, epoch = case
    n = np.arange(4 * rule.max_span, 4 * rule.max_span + 40)
    two = replace(rule, anchors=2, strategy="any", reproduce=False)
    u = uniforms(seed, TRAIN, epoch, np.arange(len(n)), two.uniforms)
    for ours, published in zip(
        two.spans(n, u), replace(two, reproduce=True).spans(n, u), strict=True
    ):
        assert (ours == published).all()


def beside(n, start, length, shortest, longest, draw=0.0, reproduce=False):
    found = positive_spans(
        *(np.array([n]), np.array([longest]), shortest),
        *(np.array([[start]]), np.array([[length]]), "adjacent", np.full((1, 1, 1, 6), draw)),
        reproduce,
    )
    return [part.item() for part in found]


def test_an_adjacent_positive_may_start_at_the_first_token():
    assert beside(n=20, start=5, length=10, shortest=5, longest=5) == [0, 5]
    assert beside(n=19, start=5, length=10, shortest=5, longest=5, draw=ALMOST_ONE) == [0, 5]
    assert beside(n=20, start=5, length=10, shortest=5, longest=5, reproduce=True) == [15, 5]
    assert beside(n=19, start=5, length=10, shortest=5, longest=5, reproduce=True) == [0, 5]


def test_adjacent_positives_are_shorter_than_the_shortest_where_there_is_no_more_room():
    assert beside(n=15, start=3, length=10, shortest=5, longest=8) == [0, 3]
    assert beside(n=17, start=3, length=10, shortest=5, longest=8) == [13, 4]


# Purity.


@given(cases(), st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_a_documents_numbers_do_not_depend_on_its_company(case, document):
    rule, n, seed, epoch = case
    documents = np.array([document, 3, 10**9, document + 1])
    together = uniforms(seed, TRAIN, epoch, documents, rule.uniforms)
    assert (uniforms(seed, TRAIN, epoch, documents[:1], rule.uniforms) == together[:1]).all()
    assert (uniforms(seed, TRAIN, epoch, documents[::-1], rule.uniforms)[::-1] == together).all()
    longer = uniforms(seed, TRAIN, epoch, documents, rule.uniforms + 77)
    assert (longer[:, : rule.uniforms] == together).all()
    all_n = np.full(4, n[0])
    alone = rule.spans(all_n[:1], together[:1])
    for one, of_all in zip(alone, rule.spans(all_n, together), strict=True):
        assert (one[0] == of_all[0]).all()


def test_every_seed_stream_epoch_and_document_has_its_own_numbers():
    seen = {
        uniforms(seed, stream, epoch, np.array([document]), 2).tobytes()
        for seed in (0, 1, 2**63, 2**64 - 1)
        for stream in (TRAIN, HELD_OUT)
        for epoch in (0, 1, 2)
        for document in (0, 1, 2, 10**9)
    }
    assert len(seen) == 4 * 2 * 3 * 4


def test_numbers_are_even_and_those_of_neighbours_unrelated():
    found = uniforms(0, TRAIN, 0, np.arange(2000), 50)
    assert_even(found)
    assert found.min() >= 0
    assert found.max() < 1
    assert abs(np.corrcoef(found[:-1].ravel(), found[1:].ravel())[0, 1]) < 4 / math.sqrt(10**5)
    other = uniforms(0, TRAIN, 1, np.arange(2000), 50)
    assert abs(np.corrcoef(found.ravel(), other.ravel())[0, 1]) < 4 / math.sqrt(10**5)


def test_numbers_are_those_of_numpys_philox():
    counter = np.array([0, 5, 77, 0], dtype=np.uint64)
    bits = np.random.Philox(key=np.array([3, HELD_OUT], dtype=np.uint64), counter=counter)
    want = np.random.Generator(bits).random(9)
    assert (uniforms(3, HELD_OUT, 5, np.array([8, 77]), 9)[1] == want).all()


def test_a_rule_says_how_many_numbers_it_takes():
    assert Rule(3, 2, 9, 2, "any").uniforms == 3 * (PER_ANCHOR + 2 * PER_POSITIVE)
    n, longest = np.array([40]), np.array([9])
    starts, lengths = anchor_spans(n, longest, 2, np.full((1, 2, PER_ANCHOR), 0.3))
    assert starts.shape == lengths.shape == (1, 2)
