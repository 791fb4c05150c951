from collections import Counter, defaultdict
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sciembed_train.corpus.mining.triplet_mining import (
    PRIME,
    CitationGraph,
    TripletMining,
    constants,
    mine_triplets,
    next_prime,
    shard_bounds,
    slot_plan,
)
from sciembed_train.corpus.sql_engine import running
from sciembed_train.errors import UserError


def mine(work, citations, usable, split, mining, seed=0, memory=10**9, threads=1):
    work.mkdir(parents=True, exist_ok=True)
    for path in work.glob("*.duckdb*"):
        path.unlink()
    citations = np.unique(np.array(citations, np.int32).reshape(-1, 2), axis=0)
    usable, split = np.array(usable, bool), np.array(split, np.int8)
    with running(work, 10**9, threads) as engine:
        graph = CitationGraph(citations, usable, split)
        return mine_triplets(engine, graph, mining, seed, memory, work / "units")


def pools(citations, usable, split, max_references=1000):
    """References, hard pools and two-hop pools of every query, in plain Python."""
    refs = defaultdict(set)
    for a, b in citations:
        if usable[a] and usable[b]:
            refs[a].add(b)
    refs = dict(refs)
    hops = {a: cited for a, cited in refs.items() if len(cited) <= max_references}
    hard, near = {}, {}
    for q, cited in refs.items():
        near[q] = {h for c in cited for h in hops.get(c, ())} - {q}
        hard[q] = {h for c in cited if split[c] == 0 for h in hops.get(c, ())} - cited - {q}
    return refs, hard, near


def check_every_rule(result, citations, usable, split, mining):
    citations = set(citations)
    refs, hard_pool, near = pools(citations, usable, split, mining.max_references)
    assert result.long_lists.tolist() == sorted(
        q for q, cited in refs.items() if len(cited) > mining.max_references
    )
    assert result.queries.tolist() == sorted(refs)
    needed = mining.require_hard and mining.hard > 0
    without = sorted(q for q in refs if needed and not hard_pool[q])
    assert result.without_hops.tolist() == without
    of_query = defaultdict(list)
    for (q, p, n), is_hard in zip(result.rows.tolist(), result.hard.tolist(), strict=True):
        of_query[q].append((p, n, is_hard))
    unfilled = 0
    everyone = {i for i, u in enumerate(usable) if u}
    for q in sorted(set(refs) - set(without)):
        rows = of_query.pop(q, [])
        n_hard = min(mining.hard, len(refs[q]) * len(hard_pool[q]))
        room = everyone - refs[q] - near[q] - {q}
        n_easy = min(mining.per_query - n_hard, len(room))
        unfilled += mining.per_query - n_hard - n_easy
        assert [is_hard for *_, is_hard in rows] == [True] * n_hard + [False] * n_easy
        assert len(set(rows)) == len(rows)
        assert {p for p, *_ in rows} <= refs[q]
        hards = [n for _, n, is_hard in rows if is_hard]
        easies = [n for _, n, is_hard in rows if not is_hard]
        assert set(hards) <= hard_pool[q]
        assert len(set(hards)) == min(n_hard, len(hard_pool[q]))
        assert set(easies) <= room
        assert len(set(easies)) == n_easy
        if n_hard + n_easy == mining.per_query:  # no positive again before all were used
            times = Counter(p for p, *_ in rows)
            used = [times[p] for p in refs[q]]
            assert max(used) - min(used) <= 1
    assert not of_query
    assert result.unfilled == unfilled


@st.composite
def worlds(draw):
    n = draw(st.integers(2, 14))
    pair = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] != e[1])
    citations = draw(st.lists(pair, max_size=50))
    usable = draw(st.lists(st.sampled_from([True, True, True, False]), min_size=n, max_size=n))
    split = draw(st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=n, max_size=n))
    per_query = draw(st.integers(1, 7))
    hard = draw(st.integers(0, per_query))
    caps = draw(st.sampled_from([1, 2, 1000]))
    mining = TripletMining(per_query, hard, draw(st.booleans()), max_references=caps)
    return citations, usable, split, mining, draw(st.integers(0, 3))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(worlds())
def test_every_rule_holds_on_small_graphs(tmp_path, world):
    citations, usable, split, mining, seed = world
    result = mine(tmp_path / "w", citations, usable, split, mining, seed)
    check_every_rule(result, set(citations), usable, split, mining)


def big_world(n=600, edges=4000, seed=0):
    rng = np.random.default_rng(seed)
    citing, cited = rng.integers(0, n, edges), (rng.random(edges) ** 2 * n).astype(int)
    pairs = np.unique(np.stack([citing, cited], 1)[citing != cited], axis=0)
    return pairs, rng.random(n) > 0.1, rng.choice([0, 0, 0, 0, 1, 2], n)


def test_every_rule_holds_on_a_larger_graph_cut_into_many_shards(tmp_path):
    citations, usable, split = big_world()
    result = mine(tmp_path, citations, usable, split, TripletMining(), memory=1)
    check_every_rule(result, map(tuple, citations.tolist()), usable, split, TripletMining())


def test_the_same_rows_from_any_number_of_threads_and_shards(tmp_path):
    world = big_world()
    one = mine(tmp_path / "a", *world, TripletMining(), threads=1)
    for threads, memory in ((1, 1), (2, 10**9), (5, 10**5)):
        other = mine(tmp_path / f"{threads}-{memory}", *world, TripletMining(), 0, memory, threads)
        assert np.array_equal(one.rows, other.rows)
        assert np.array_equal(one.hard, other.hard)
    again = mine(tmp_path / "seed", *world, TripletMining(), seed=1)
    assert len(again.rows) == len(one.rows)
    assert (again.rows != one.rows).any(axis=1).mean() > 0.8


def test_held_out_references_do_not_change_what_training_triplets_take_hard(tmp_path):
    citations, usable, split = big_world()
    held_out = split[citations[:, 0]] != 0
    whole = mine(tmp_path / "a", citations, usable, split, TripletMining())
    without = mine(tmp_path / "b", citations[~held_out], usable, split, TripletMining())
    train = split[whole.rows[:, 0]] == 0
    hard = train & whole.hard
    assert np.array_equal(whole.rows[hard], without.rows[without.hard])
    assert np.array_equal(whole.rows[train][:, :2], without.rows[:, :2])


def test_rows_are_those_of_the_arithmetic_in_plain_python(tmp_path):
    citations, usable, split = big_world(80, 300)
    mining, seed = TripletMining(), 7
    result = mine(tmp_path, citations, usable, split, mining, seed)
    c = [constants(seed)[f"c{i}"] for i in range(10)]
    texts = [i for i, u in enumerate(usable) if u]
    prime = next_prime(len(texts))
    refs, hard_pool, near = pools(map(tuple, citations.tolist()), usable, split)

    def in_order(query, papers, kind):
        def hashed(paper):
            z = (query * c[0] + kind * c[1] + c[2]) % PRIME
            z = (z**3 + paper * c[3]) % PRIME
            return pow((z**3 + c[4]) % PRIME, 3, PRIME)

        return sorted(papers, key=lambda paper: (hashed(paper), paper))

    expected = []
    for q in sorted(refs):
        positives, hards = in_order(q, refs[q], 2), in_order(q, hard_pool[q], 1)
        if not hards:
            continue
        z = (pow((q * c[5] + c[6]) % PRIME, 3, PRIME) + c[7]) % PRIME
        z = (z**3 + c[8]) % PRIME
        y = (z**3 + c[9]) % PRIME
        start, stride = z % prime, 1 + pow(y, 3, PRIME) % (prime - 1)
        walk = ((start + step * stride) % prime for step in range(prime))
        met = [texts[slot] for slot in walk if slot < len(texts)]
        easies = [n for n in met if n != q and n not in refs[q] and n not in near[q]]
        n_hard = min(2, len(positives) * len(hards))
        for slot in range(5):
            turn = slot // np.lcm(len(positives), len(hards)) if slot < n_hard else 0
            negative = hards[(slot + turn) % len(hards)] if slot < n_hard else easies[slot - n_hard]
            expected.append([q, positives[slot % len(positives)], negative])
    assert result.rows.tolist() == expected


def test_choices_are_spread_evenly(tmp_path):
    # 400 queries cite the same 10 papers, each of which cites the same 10 others; 500 more papers.
    citations = [(q, 400 + c) for q in range(400) for c in range(10)]
    citations += [(400 + c, 410 + h) for c in range(10) for h in range(10)]
    n = 920
    result = mine(tmp_path, citations, [True] * n, [0] * n, TripletMining(per_query=4, hard=1))
    rows = result.rows[result.rows[:, 0] < 400]
    hard = result.hard[result.rows[:, 0] < 400]
    range_starts = rows[::4, 1] - 400
    assert_even(np.bincount(range_starts, minlength=10))
    assert_even(np.bincount(rows[hard, 2] - 410, minlength=10))
    pairs = (
        range_starts * 10 + rows[1::4, 1] - 400
    )  # the second positive does not follow from the first
    assert_even(np.bincount(pairs, minlength=100)[[i for i in range(100) if i // 10 != i % 10]])
    easy = rows[~hard, 2]
    assert_even(np.bincount(easy // 100, minlength=10)[[0, 1, 2, 3, 5, 6, 7, 8]])


def assert_even(counts):
    expected = counts.sum() / len(counts)
    chi2 = ((counts - expected) ** 2 / expected).sum()
    free = len(counts) - 1
    assert chi2 < free + 4 * np.sqrt(2 * free), counts


def test_the_last_free_paper_is_found_as_easy_negative(tmp_path):
    # Query 0 cites 1 and reaches all but paper 997 of a thousand.
    citations = [(0, 1)] + [(1, h) for h in range(2, 1000) if h != 997]
    result = mine(tmp_path, citations, [True] * 1000, [0] * 1000, TripletMining())
    assert result.rows[result.rows[:, 0] == 0][2:].tolist() == [[0, 1, 997]]
    assert result.unfilled == 2


@pytest.mark.parametrize(("per_query", "hard"), [(5, 2), (6, 6), (4, 0), (12, 9)])
def test_a_plan_never_pairs_the_same_papers_twice(per_query, hard):
    plan = slot_plan(per_query, hard)
    for positives, hards in product(range(1, per_query + 1), range(per_query + 1)):
        rows = plan[(plan[:, 0] == positives) & (plan[:, 1] == hards)]
        assert rows[:, 2].tolist() == list(range(per_query))
        kinds, places = rows[:, 3], rows[:, 4:]
        assert kinds.sum() == min(hard, positives * hards)
        assert len({tuple(r) for r in places[kinds == 1].tolist()}) == kinds.sum()
        assert (places[:, 0] < positives).all()
        assert (places[kinds == 1, 1] < max(hards, 1)).all()
        assert places[kinds == 0, 1].tolist() == list(range(per_query - kinds.sum()))


def test_shards_hold_whole_queries_and_little_more_than_asked():
    citations, *_ = big_world()
    references = np.bincount(citations[:, 0], minlength=600)
    everything = np.ones(600, bool), np.zeros(600, np.int8)
    bounds = shard_bounds(CitationGraph(citations, *everything), 500, 1000)
    assert bounds[0][0] == 0
    assert bounds[-1][1] == 600
    assert [high for _, high in bounds[:-1]] == [low for low, _ in bounds[1:]]
    pairs = np.bincount(citations[:, 0], 1 + references[citations[:, 1]], 600)
    assert len(bounds) > 20
    for low, high in bounds:
        assert pairs[low:high].sum() <= 500 + pairs[low:high].max()
    assert shard_bounds(CitationGraph(citations[:0], *everything), 500, 1000) == []


def test_a_list_of_a_whole_field_leads_nowhere_and_takes_no_memory(tmp_path):
    """2,000 papers cite one that cites 5,000: ten million pairs without the cap."""
    long = [(0, cited) for cited in range(1, 5001)]
    citations = np.array([*long, *((citing, 0) for citing in range(5001, 7001)), (5001, 5002)])
    everything = np.ones(7001, bool), np.zeros(7001, int)
    result = mine(tmp_path, citations, *everything, TripletMining(require_hard=False), memory=1)
    assert result.long_lists.tolist() == [0]
    assert not result.hard.any()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"per_query": 0}, "per_query must be 1 to 100; got 0"),
        ({"hard": 6}, "hard must be 0 to per_query, here 5; got 6"),
        ({"max_references": 0}, "max_references must be 1 or more; got 0"),
        ({"margin_fraction": 1.0}, "margin_fraction must be above 0 and below 1"),
    ],
)
def test_impossible_settings_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        TripletMining(**values)


def test_the_modulus_keeps_products_below_two_to_the_63():
    assert next_prime(PRIME) == PRIME
    assert PRIME % 3 == 2  # so that z -> z^3 is one-to-one
    assert 2 * (PRIME - 1) ** 2 + PRIME < 2**63
