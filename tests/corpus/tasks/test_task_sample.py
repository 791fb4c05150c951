from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.corpus.tasks.task_records import Record
from sciembed_train.corpus.tasks.task_sample import (
    LowestKeys,
    RecordFile,
    Sampler,
    record_key,
    shares,
)


def drawn(tmp_path, size, given, stratified=False):
    """The records that are drawn, as their places."""
    sampler, spool = Sampler(size, stratified), RecordFile(tmp_path / "spool")
    put_down = 0
    with spool:
        for place, record in enumerate(given):
            key = record_key(0, "task", "train", place)
            if sampler.offer(key, record):
                spool.add(0, key, record, place)
                put_down += 1
    chooser = sampler.chooser(lambda: spool.keys(0))
    return [place for _, place in spool.records(0, chooser)], put_down


def labelled(classes):
    return [Record((("text", str(i)),), c) for i, c in enumerate(classes)]


@settings(deadline=None)
@given(
    keys=st.lists(st.integers(0, 2**64 - 1), unique=True, max_size=60),
    size=st.integers(0, 20),
    slack=st.integers(0, 3),
    data=st.data(),
)
def test_the_lowest_keys_are_those_a_sort_gives(keys, size, slack, data):
    weights = [data.draw(st.integers(1, 5)) for _ in keys]
    lowest = LowestKeys(size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sciembed_train.corpus.tasks.task_sample.SLACK", slack)
        offered = [k for k, w in zip(keys, weights, strict=True) if lowest.offer(k, w)]
    end = lowest.limit()
    expected, total = [], 0
    for key, weight in sorted(zip(keys, weights, strict=True)):
        total += weight
        if total > size:
            break
        expected.append(key)
    assert sorted(key for key in offered if key < end) == expected


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(1, 500), min_size=1, max_size=12),
    part=st.floats(0, 1, exclude_max=True),
)
def test_classes_keep_their_shares_and_none_is_lost_that_there_is_room_for(counts, part):
    size = int(sum(counts) * part)
    result = shares(dict(enumerate(counts)), size)
    assert sum(result.values()) == size
    for number, count in enumerate(counts):
        assert 0 <= result[number] <= count
        exact = size * count / sum(counts)
        below_one = [c for c in counts if size * c < sum(counts)]
        assert result[number] >= int(exact)
        assert result[number] <= int(exact) + 1
        if size * count < sum(counts) and size - sum(
            size * c // sum(counts) for c in counts
        ) >= len(below_one):
            assert result[number] == 1


def test_a_sample_is_even_over_the_stream_and_always_the_same(tmp_path):
    places, put_down = drawn(tmp_path, 2_000, labelled([None] * 40_000))
    again, _ = drawn(tmp_path, 2_000, labelled([None] * 40_000))
    assert places == again == sorted(set(places))
    assert len(places) == 2_000
    assert put_down < 40_000 / 3  # only what might be drawn goes through the file
    tenths = np.bincount(np.array(places) // 4_000)
    assert np.abs(tenths - 200).max() < 5 * np.sqrt(200)


def test_a_sample_is_counted_in_examples(tmp_path):
    pairs = tuple((1, i) for i in range(2, 7))
    searches = [Record((("q",),), pairs=pairs[: 1 + i % 5]) for i in range(500)]
    places, _ = drawn(tmp_path, 100, searches)
    examples = sum(searches[place].examples for place in places)
    assert 95 < examples <= 100
    assert drawn(tmp_path, -1, searches)[0] == list(range(500))
    assert drawn(tmp_path, 10_000, searches)[0] == list(range(500))
    assert drawn(tmp_path, 0, searches)[0] == []


def test_a_sample_of_a_classification_keeps_the_shares_of_the_classes(tmp_path):
    # Sorted by class, as files often are.
    classes = [0] * 7_000 + [1] * 2_900 + [2] * 98 + [3] * 2
    places, _ = drawn(tmp_path, 1_000, labelled(classes), stratified=True)
    assert Counter(classes[place] for place in places) == {0: 700, 1: 290, 2: 9, 3: 1}
    places = np.array([place for place in places if classes[place] == 0])
    assert np.abs(np.bincount(places // 700) - 70).max() < 5 * np.sqrt(70)


def test_a_text_of_several_classes_stands_for_the_rarest(tmp_path):
    classes = [(0, 1)] * 900 + [(0, 2)] * 100
    rng = np.random.default_rng(0)
    given = labelled([classes[i] for i in rng.permutation(1_000)])
    places, _ = drawn(tmp_path, 500, given, stratified=True)
    assert Counter(given[place].label for place in places) == {(0, 1): 450, (0, 2): 50}
    nothing = labelled([()] * 5 + [(1,)] * 5)
    assert len(drawn(tmp_path, 4, nothing, stratified=True)[0]) == 4


def test_a_spool_gives_back_what_was_put_down(tmp_path):
    given = [
        Record((("title one", "two\nlines \u2028 é \0"),), (0, 3)),
        Record((("a",),), 1.5),
        Record((("a",), ("b", "c"), ("d",)), None, ((1, 2),)),
        Record((("a",),), ()),
    ]
    spool = RecordFile(tmp_path / "spool")
    with spool:
        for place, record in enumerate(given):
            spool.add(place % 2, 7 + place, record, place)
    for split in (0, 1):
        result = list(spool.records(split, lambda key, classes: True))
        assert result == [(record, p) for p, record in enumerate(given) if p % 2 == split]
    assert list(spool.keys(0)) == [(7, (0, 3)), (9, ())]


def test_keys_differ_by_seed_task_split_and_place():
    keys = [
        record_key(seed, task, split, number)
        for seed in (0, 1)
        for task in ("a", "b")
        for split in ("train", "dev")
        for number in range(100)
    ]
    assert len(set(keys)) == len(keys)
    assert 0 <= min(keys) < max(keys) < 2**64
