import json
from collections import Counter

import numpy as np
import pytest

from sciembed_train.corpus.audit import Audit
from sciembed_train.corpus.mining.margin_mining import (
    CLOSE,
    EQUAL,
    FEW,
    margin_triplets,
    mine_margin,
)
from sciembed_train.corpus.mining.triplet_mining import TripletMining
from sciembed_train.corpus.papers import Papers
from sciembed_train.errors import UserError

UNIVERSE = [f"u{i}" for i in range(20)]


def rule(counts, mining=None, universe=UNIVERSE, seed=0):
    rng = np.random.default_rng(seed)
    return margin_triplets("q", counts, universe, mining or TripletMining(), rng)


def test_cited_papers_are_positives_and_two_hop_papers_hard_negatives():
    counts = {"a": 5, "b": 5, "c": 1, "d": 1, "u3": 1}
    seen = Counter()
    for seed in range(300):
        rows = rule(counts, seed=seed)
        assert [hard for *_, hard in rows] == [True, True, False, False, False]
        for positive, negative, hard in rows:
            seen[positive, hard] += 1
            seen[negative] += 1
            assert negative in ("c", "d", "u3") if hard else negative in UNIVERSE
            assert hard or negative != "u3"
    assert set(seen) == {("a", True), ("b", True), ("a", False), ("b", False), "c", "d"} | set(
        UNIVERSE
    )
    assert 220 < seen["a", True] < 380  # of 600: uniform
    assert 140 < seen["c"] < 260  # of 600, a third


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ({"a": 5, "b": 1}, FEW),
        ({"a": 5, "b": 5, "c": 5}, EQUAL),
        ({"a": 2, "b": 1, "c": 1}, CLOSE),  # a spread of 1 has margin 1, and nothing is above it
    ],
)
def test_a_query_without_a_triplet_says_why(counts, why):
    assert rule(counts) == why


def test_a_spread_of_one_in_fractions_keeps_half_as_margin():
    rows = rule({"a": 2.0, "b": 1.0, "c": 1.0})
    assert sum(hard for *_, hard in rows) == 2


def test_hard_triplets_are_no_more_than_pairs_of_other_and_hard_papers():
    rows = rule({"a": 5, "b": 1, "c": 1}, TripletMining(per_query=5, hard=5))
    assert [hard for *_, hard in rows] == [True, True, False, False, False]


def test_a_hard_negative_in_the_middle_takes_a_positive_above_its_own_margin():
    counts = {"a": 10, "b": 6, "c": 4, "d": 0}
    for seed in range(100):
        for positive, negative, hard in rule(counts, seed=seed):
            if hard:
                assert negative in ("c", "d")  # below 10 - 5
                assert counts[positive] > counts[negative] + 5
            else:
                assert counts[positive] > 5


def test_easy_negatives_are_found_among_few_and_missing_when_there_are_none():
    counts = {"a": 5, "b": 1, **dict.fromkeys(UNIVERSE[:-1], 1)}
    rows = rule(counts)
    assert [n for _, n, hard in rows if not hard] == ["u19"] * 3
    assert [hard for *_, hard in rule(counts, universe=UNIVERSE[:-1])] == [True, True]


def write_relations(path, data):
    path.write_text(json.dumps(data))
    return path


def test_missing_texts_are_counted_by_reason_and_the_rows_kept_are_keys(tmp_path):
    ids = ["a", "c", "e", "q", "r", "z"]
    usable = np.array([True, True, True, True, True, False])
    data = write_relations(
        tmp_path / "data.json",
        {
            "q": {"a": {"count": 5}, "c": {"count": 1}, "e": {"count": 1}},
            "r": {"a": {"count": 5}, "c": {"count": 5}, "e": {"count": 5}},
            "elsewhere": {"a": {"count": 5}},
        },
    )
    key = {paper: i for i, paper in enumerate(ids)}
    audit = Audit("relations")
    lists = {"train": {"q", "r", "nowhere"}, "dev": set()}
    results, citations = mine_margin(
        data, lists, Papers(ids, key, usable), TripletMining(), 0, audit
    )
    train = results["train"]
    assert train.by_rule == {"hard": 2, "easy": 3}
    assert [row[:2] for row in train.rows] == [(3, 0)] * len(train.rows)
    reason = "the negative has no title and no abstract"
    dropped = train.dropped[reason].count if train.dropped else 0
    assert len(train.rows) + dropped == 5
    assert {w: d.count for w, d in train.empty.items()} == {
        EQUAL: 1,
        "not a query of data.json": 1,
    }
    assert citations.tolist() == [[3, 0], [4, 0], [4, 1], [4, 2]]
    assert audit.dropped["query in none of train.txt, val.txt and test.txt"].count == 1


def test_draws_depend_on_the_query_and_the_seed_not_on_the_order_of_the_file(tmp_path):
    ids = [f"p{i:02d}" for i in range(40)]
    key = {paper: i for i, paper in enumerate(ids)}
    rng = np.random.default_rng(0)
    data = {
        q: {o: {"count": int(rng.choice([1, 5]))} for o in rng.choice(ids, 8, False).tolist()}
        for q in ids[:10]
    }
    result = []
    for order in (list(data), list(data)[::-1]):
        path = write_relations(
            tmp_path / "d.json", {q: dict(reversed(data[q].items())) for q in order}
        )
        results, _ = mine_margin(
            path,
            {"train": set(ids)},
            Papers(ids, key, np.ones(40, bool)),
            TripletMining(),
            3,
            Audit("relations"),
        )
        result.append(sorted(results["train"].rows))
    assert result[0] == result[1]
    assert len(result[0]) > 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"q": {"a": {"count": "5"}}}',
            r"data\.json, record 1: the relation of 'q' to 'a' is an object",
        ),
        ('[{"a": 1}]', "must be an object"),
        ('{"q": {"a": 5}', r"data\.json:1: this is not JSON"),
    ],
)
def test_a_damaged_file_is_told_with_its_place(tmp_path, text, message):
    (tmp_path / "data.json").write_text(text)
    with pytest.raises(UserError, match=message):
        mine_margin(
            tmp_path / "data.json",
            {"train": {"q"}},
            Papers([], {}, np.ones(0, bool)),
            TripletMining(),
            0,
            Audit("relations"),
        )


def test_ids_of_one_text_are_one_paper(tmp_path):
    ids = ["a", "b", "c", "d", "e", "q", "xa", "xq"]
    number = {paper: i for i, paper in enumerate(ids)}
    first = np.array([0, 1, 2, 3, 4, 5, 0, 5], np.int32)
    papers = Papers(ids, number, np.ones(len(ids), bool), first)
    data = write_relations(
        tmp_path / "data.json",
        {
            "q": {
                **{other: {"count": 5} for other in ("a", "b")},
                **{other: {"count": 1} for other in ("xa", "c", "d", "xq")},
            },
            "xq": {"c": {"count": 5}, "b": {"count": 1}, "e": {"count": 1}},
        },
    )
    lists = {"train": {"q"}, "test": {"xq"}}
    results, citations = mine_margin(data, lists, papers, TripletMining(), 0, Audit("relations"))
    assert citations.tolist() == [[5, 0], [5, 1], [5, 2]]
    assert not results["train"].rows  # the test list names its paper, too
    rows = results["test"].rows
    assert rows
    for query, positive, negative in rows:
        assert query == 5
        assert negative not in (0, 1, 2, 5, positive)  # what either id cites is no negative
        assert max(positive, negative) < 6


def test_excluded_papers_are_in_no_triplet_and_no_citation(tmp_path):
    ids = [f"p{i:02d}" for i in range(40)]
    rng = np.random.default_rng(0)
    data = {
        q: {o: {"count": int(rng.choice([1, 5]))} for o in rng.choice(ids, 8, False).tolist()}
        for q in ids[:20]
    }
    path = write_relations(tmp_path / "d.json", data)
    held = []
    for out in ((), range(0, 40, 5)):
        papers = Papers(ids, {p: i for i, p in enumerate(ids)}, np.ones(40, bool))
        papers.exclude(np.isin(np.arange(40), list(out)))
        asked = {"train": set(ids[:20])}
        results, citations = mine_margin(path, asked, papers, TripletMining(), 0, Audit("r"))
        train = results["train"]
        rows = np.array(train.rows), citations
        held.append([len(set(part.ravel().tolist()) & set(range(0, 40, 5))) for part in rows])
        assert sum(d.count for d in train.dropped.values()) == 0
    assert min(held[0]) > 3
    assert held[1] == [0, 0]
    assert train.empty["excluded"].count == 4
    assert len(train.rows) > 50
