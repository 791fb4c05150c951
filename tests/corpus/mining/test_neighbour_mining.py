from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.corpus.mining.graph_embedding import adjacency, components, write_embedding
from sciembed_train.corpus.mining.neighbour_mining import hashes, mine_neighbours
from sciembed_train.corpus.mining.neighbour_settings import NeighbourMining
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress

# The bands of a small graph as they are, with room for a choice within each.
SMALL = NeighbourMining(
    per_query=3, hard=1, positives_from=2, positives_to=6, hard_from=8, hard_to=10,
    full_size=1, nearest_hard=0, dimension=64,
)  # fmt: skip


def mine(folder, citations, usable, split, mining=SMALL, seed=0, memory=10**9):
    folder.mkdir(parents=True, exist_ok=True)
    arrays = np.array(citations, np.int32).reshape(-1, 2), np.array(usable, bool)
    splits = np.array(split, np.int8)
    quiet = Progress(quiet=True)
    triplets, facts = mine_neighbours(*arrays, splits, mining, seed, memory, folder, quiet)
    assert not any(folder.iterdir())
    return triplets, facts


def world(n=60, edges=240, seed=0, text=0.9, shares=(0.7, 0.15, 0.15)):
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, n, (edges, 2))
    pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
    return pairs.astype(np.int32), rng.random(n) < text, rng.choice(3, n, p=shares).astype(np.int8)


def ranked(folder, edges, usable, mining, seed):
    """Of each paper the others with a text and a vector, by plain sorting of whole products."""
    papers = np.unique(edges)
    matrix = adjacency(np.searchsorted(papers, edges), len(papers))
    vectors, _ = write_embedding(folder / "plain.npy", matrix, mining.dimension, seed, 10**9)
    part = dict(zip(papers.tolist(), components(matrix).tolist(), strict=True))
    row = {paper: vectors[i].astype(np.int64) for i, paper in enumerate(papers.tolist())}
    (folder / "plain.npy").unlink()
    index = [p for p in papers.tolist() if usable[p] and row[p].any()]
    order = {
        q: sorted((p for p in index if p != q), key=lambda p: (-int(row[p] @ row[q]), p))
        for q in index
    }
    return order, part


def check_every_rule(folder, triplets, citations, usable, split, mining, seed=0):
    """Compare triplets with bands counted off whole sorted lists."""
    assert (np.diff(triplets.rows[:, 0]) >= 0).all()
    for number in range(3):
        edges = citations[split[citations[:, 0]] <= number]
        readable = {
            a for a, b in citations.tolist() if usable[a] and usable[b] and split[a] == number
        }
        chosen = split[triplets.rows[:, 0]] == number
        rows, hard = triplets.rows[chosen], triplets.hard[chosen]
        assert set(rows[:, 0].tolist()) <= readable
        if not len(edges) or not readable:
            assert not len(rows)
            continue
        order, part = ranked(folder, edges, usable, mining, seed)
        linked = {(a, b) for pair in edges.tolist() for a, b in (pair, pair[::-1])}
        bands = mining.bands(int(usable[np.unique(edges)].sum()))
        for query in readable & order.keys():
            own = rows[rows[:, 0] == query]
            connected = [p for p in order[query][: bands.kept] if part[p] == part[query]]
            (low, high), (first, end) = bands.positives, bands.hard
            low = max(0, min(low, len(connected) - (high - low)))
            band = connected[low : low + bands.positives[1] - bands.positives[0]]
            count = min(mining.per_query, len(band))
            positives = own[:, 1].tolist()
            assert set(positives) <= set(band)
            assert len(set(positives)) == len(positives)
            far = [p for p in order[query][first:end] if p not in positives]
            far = [p for p in far if (query, p) not in linked]
            n_hard = min(mining.hard, count, len(far))
            is_hard = hard[rows[:, 0] == query]
            assert is_hard.sum() == n_hard
            assert set(own[is_hard, 2].tolist()) <= set(far)
            near = {query, *order[query][: bands.kept]}
            room = [
                p for p in np.flatnonzero(usable).tolist()
                if p not in near and (query, p) not in linked
            ]  # fmt: skip
            easy = own[~is_hard, 2].tolist()
            assert set(easy) <= set(room)
            assert len(easy) == min(count - n_hard, len(room)) == len(set(easy))


@st.composite
def cases(draw):
    n = draw(st.integers(4, 45))
    citations, usable, split = world(
        n, draw(st.integers(n // 2, 5 * n)), draw(st.integers(0, 10**6)), draw(st.floats(0.6, 1))
    )
    hard = draw(st.integers(0, 2))
    mining = NeighbourMining(
        per_query=draw(st.integers(max(hard, 1), 3)), hard=hard, positives_from=draw(
            st.integers(0, 6)
        ), positives_to=10, hard_from=draw(st.integers(10, 14)), hard_to=18,
        full_size=draw(st.sampled_from([1, 30, 100])), nearest_hard=draw(st.integers(0, 12)),
        dimension=16,
    )  # fmt: skip
    return citations, usable, split, mining


@settings(deadline=None, max_examples=40)
@given(cases(), st.integers(0, 3))
def test_triplets_follow_every_rule_on_any_graph(tmp_path_factory, case, seed):
    folder = tmp_path_factory.mktemp("mine")
    citations, usable, split, mining = case
    triplets, _ = mine(folder, citations, usable, split, mining, seed)
    check_every_rule(folder, triplets, citations, usable, split, mining, seed)


def test_a_band_as_wide_as_its_count_is_taken_whole(tmp_path):
    citations, usable, split = world(shares=(1, 0, 0), text=1)
    mining = NeighbourMining(
        per_query=5, hard=2, positives_from=20, positives_to=25, hard_from=38, hard_to=40,
        full_size=1, nearest_hard=0, dimension=64,
    )  # fmt: skip
    triplets, facts = mine(tmp_path, citations, usable, split, mining)
    order, _ = ranked(tmp_path, citations, usable, mining, 0)
    for query in np.unique(citations[:, 0]).tolist():
        own = triplets.rows[:, 0] == query
        assert set(triplets.rows[own, 1].tolist()) == set(order[query][20:25])
        linked = {b for a, b in [*citations.tolist(), *citations[:, ::-1].tolist()] if a == query}
        far = set(order[query][38:40]) - linked
        assert set(triplets.rows[own & triplets.hard, 2].tolist()) == far
    assert facts["graphs"]["train"]["ranks of hard negatives"] == [38, 40]


def test_positives_are_in_the_own_one_of_two_cliques_joined_by_an_edge(tmp_path):
    cliques = range(12), range(12, 24)
    citations = sorted([pair for clique in cliques for pair in combinations(clique, 2)] + [(3, 17)])
    triplets, _ = mine(tmp_path, citations, [True] * 24, [0] * 24, NeighbourMining(dimension=768))
    assert len(triplets.rows) > 100
    same = triplets.rows[:, :2] // 12
    assert (same[:, 0] == same[:, 1]).all()
    other = triplets.rows[:, [0, 2]] // 12
    assert (other[:, 0] != other[:, 1]).all()


def test_what_held_out_papers_cite_changes_no_training_triplet(tmp_path):
    citations, usable, split = world(80, 400, shares=(0.6, 0.2, 0.2))
    whole, _ = mine(tmp_path / "a", citations, usable, split)
    held = {n: split[citations[:, 0]] == n for n in (1, 2)}
    without, _ = mine(tmp_path / "b", citations[~(held[1] | held[2])], usable, split)
    train = split[whole.rows[:, 0]] == 0
    assert train.sum() > 50
    assert whole.rows[train].tolist() == without.rows.tolist()
    assert whole.hard[train].tolist() == without.hard.tolist()
    # Nor does what papers of test cite change a triplet of dev.
    without_test, _ = mine(tmp_path / "c", citations[~held[2]], usable, split)
    kept = split[whole.rows[:, 0]] < 2
    assert whole.rows[kept].tolist() == without_test.rows.tolist()


def test_papers_without_an_edge_are_easy_negatives_alone(tmp_path):
    citations, _, _ = world(40, 150)
    usable, split = np.ones(50, bool), np.zeros(50, np.int8)
    triplets, _ = mine(tmp_path, citations, usable, split)
    assert (triplets.rows[:, :2] < 40).all()
    assert (triplets.rows[triplets.hard, 2] < 40).all()
    assert (triplets.rows[~triplets.hard, 2] >= 40).any()


def test_papers_without_a_text_are_in_the_graph_and_in_no_triplet(tmp_path):
    # 0 and 2 are joined through 1 alone, which has no text.
    citations = [(0, 1), (0, 3), (2, 1), (4, 5), (5, 6)]
    triplets, facts = mine(tmp_path, citations, [1, 0, *[1] * 8], [0] * 10)
    assert not (triplets.rows == 1).any()
    assert {2, 3} == set(triplets.rows[triplets.rows[:, 0] == 0, 1].tolist())
    assert facts["graphs"]["train"]["papers"] == 7
    assert facts["graphs"]["train"]["papers with a text"] == 6


def test_memory_changes_nothing_and_the_seed_does(tmp_path):
    case = world()
    one, _ = mine(tmp_path / "a", *case)
    other, _ = mine(tmp_path / "b", *case, memory=1)
    assert one.rows.tolist() == other.rows.tolist()
    again, _ = mine(tmp_path / "c", *case, seed=1)
    assert one.rows.tolist() != again.rows.tolist()


def test_reproducing_refuses_a_small_graph(tmp_path):
    with pytest.raises(UserError, match="reproduce needs 4,001 papers"):
        mine(tmp_path, *world(), NeighbourMining(reproduce=True))


def test_neighbouring_queries_do_not_share_their_draws():
    """In the original every worker starts from one seed, and queries side by side share them."""
    numbers = np.arange(1000)
    drawn = [
        hashes(seed, query, stream, numbers)
        for seed, query, stream in product((0, 1), (0, 1, 2), (0, 1))
    ]
    assert len({tuple(d.tolist()) for d in drawn}) == len(drawn)
    for one, other in combinations(drawn, 2):
        assert not np.isin(one, other).any()
    shares = (np.concatenate(drawn) >> np.uint64(54)).astype(float) / 1024
    assert abs(shares.mean() - 0.5) < 0.01
