import json
import random
import re
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import combinations

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from sciembed_train.corpus.mining.cocitation_mining import CocitationMiner
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.sql_engine import running
from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.errors import UserError
from tests.helpers.cocitation_collections import big_world, digest, mine, split_of, stored, worlds


def brute_force(world, mining):
    """Pairs with their counts and contexts, and the known pairs, in plain Python."""
    usable = {p["paper_id"] for p in world["papers"] if p["title"]} - world["exclude"]
    known, groups = set(), defaultdict(dict)
    for context in world["contexts"]:
        if context["citing_id"] in world["exclude"]:
            continue
        group = tuple(sorted(set(context["cited_ids"]) & usable))
        known |= set(combinations(group, 2))
        words = len(context["text"].split())
        if not 2 <= len(group) <= mining.max_group:
            continue
        if not mining.min_words <= words <= mining.max_words:
            continue
        if mining.require_bracket and not re.search(r"[\[(]", context["text"]):
            continue
        context = stored(context, mining)
        texts = context["citing_id"], context["text"], context["before"], context["after"]
        of_group = digest("\0".join(group))
        groups[group][digest("\0".join((str(of_group), *texts)))] = context
    counts, contexts = Counter(), defaultdict(list)
    for group, result in groups.items():
        left, stripped, citing = [], set(), set()
        for _, context in sorted(result.items(), key=lambda item: item[0]):
            text = re.sub(r"\d", "", context["text"])
            if text in stripped:
                continue
            stripped.add(text)
            if mining.one_per_citing and context["citing_id"] in citing - {""}:
                continue
            citing.add(context["citing_id"])
            left.append(context)
        if len(left) >= mining.min_contexts:
            for pair in combinations(group, 2):
                counts[pair] += len(left)
                contexts[pair] += [(c["citing_id"], c["text"]) for c in left]
    ready = {}
    for row in world["given"]:
        pair = tuple(sorted((row["paper_a"], row["paper_b"])))
        if set(pair) <= usable and pair[0] != pair[1] and row["count"]:
            ready[pair] = max(ready.get(pair, 0), row["count"])
    counts.update(ready)
    known |= set(ready)
    if mining.cocitations_from == "references":
        cited = defaultdict(set)
        for a, b in world["citations"]:
            known_paper = a in {p["paper_id"] for p in world["papers"]} - world["exclude"]
            if a != b and b in usable and known_paper:
                cited[a].add(b)
        for group in cited.values():
            counts.update(combinations(sorted(group), 2))
            known |= set(combinations(sorted(group), 2))
    pairs = {pair: n for pair, n in counts.items() if n >= mining.min_count}
    return pairs, contexts, known


def check(corpus, world, mining):
    """Every file of a corpus against the brute force."""
    pairs, contexts, known = brute_force(world, mining)
    ids = corpus.paper_ids()
    texts = {}
    if world["contexts"]:
        rows = pq.read_table(corpus.folder / "contexts.parquet").to_pylist()
        assert [row["context"] for row in rows] == list(range(len(rows)))
        texts = {row["context"]: (row["citing_id"], row["text"]) for row in rows}
        assert corpus.info["counts"]["contexts"] == len(rows)
        for row in rows:
            assert [ids[paper] for paper in row["papers"]] == row["paper_ids"]
            _, line = row["place"].split(":")
            source = stored(world["contexts"][int(line) - 1], mining)
            assert row["text"] == source["text"]
            assert row["before"] == source["before"]
            assert row["after"] == source["after"]
            assert set(row["paper_ids"]) <= set(source["cited_ids"])
        used = set()
    for split in SPLITS:
        wanted = {pair: n for pair, n in pairs.items() if split_of(pair, world) == split}
        rows, counts = corpus.cocitations(split), corpus.cocitation_counts(split)
        assert rows.dtype == counts.dtype == np.int32
        assert rows.tolist() == sorted(rows.tolist())
        assert (rows[:, 0] < rows[:, 1]).all()
        named = [(ids[a], ids[b]) for a, b in rows]
        assert dict(zip(named, counts.tolist(), strict=True)) == wanted
        table = pq.read_table(corpus.folder / "cocitations" / f"{split}.parquet").to_pylist()
        assert [(row["paper_a"], row["paper_b"]) for row in table] == named
        assert [[row["a"], row["b"]] for row in table] == rows.tolist()
        assert [row["count"] for row in table] == counts.tolist()
        for row in table:
            result = sorted(texts[context] for context in row["contexts"])
            assert result == sorted(contexts[row["paper_a"], row["paper_b"]])
            assert row["contexts"] == sorted(row["contexts"])
            if world["contexts"]:
                used |= set(row["contexts"])
    if world["contexts"] and mining.min_count == 1:
        assert used == set(texts)
    keys = corpus.known_cocitations()
    assert keys.dtype == np.int64
    assert (np.diff(keys) > 0).all()
    assert {(ids[key // len(ids)], ids[key % len(ids)]) for key in keys.tolist()} == known


@pytest.mark.slow
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(worlds())
def test_pairs_counts_contexts_and_known_pairs_are_those_of_plain_loops(tmp_path_factory, result):
    world, mining = result
    pairs, _, _ = brute_force(world, mining)
    folder = tmp_path_factory.mktemp("world")
    # With citations there may be nothing else to train on: then it is noted.
    known = {paper["paper_id"] for paper in world["papers"]} - world["exclude"]
    cited = mining.cocitations_from == "references" and any(
        a != b and {a, b} <= known for a, b in world["citations"]
    )
    if cited or any(split_of(pair, world) == "train" for pair in pairs):
        check(mine(folder, world, mining), world, mining)
    else:
        with pytest.raises(UserError, match="No training pair of co-cited papers"):
            mine(folder, world, mining)
        assert not (folder / "corpus").exists()


def test_the_same_files_from_any_order_number_of_threads_and_memory(tmp_path):
    world, mining = big_world(), CocitationMining(cocitations_from="references", max_pairs=20)
    one = mine(tmp_path / "one", world, mining)
    other = {
        name: random.Random(1).sample(rows, len(rows)) if isinstance(rows, list) else rows
        for name, rows in world.items()
    }
    for row in other["given"]:
        row["paper_a"], row["paper_b"] = row["paper_b"], row["paper_a"]
    two = mine(tmp_path / "two", other, mining, threads=4, memory="700MB")
    names = sorted(path.name for path in (one.folder / "cocitations").iterdir())
    assert names == sorted(
        ["known.npy", *(f"{s}{e}" for s in SPLITS for e in (".npy", ".count.npy", ".parquet"))]
    )
    for name in names:
        if name.endswith(".npy"):
            same = [corpus.folder / "cocitations" / name for corpus in (one, two)]
            assert same[0].read_bytes() == same[1].read_bytes()
    for name in ("contexts", *(f"cocitations/{split}" for split in SPLITS)):
        a, b = (pq.read_table(c.folder / f"{name}.parquet").to_pylist() for c in (one, two))
        for row in (*a, *b):
            row.pop("place", None)
        assert a == b
    assert len(one.cocitations("train")) > 300


def test_every_pair_of_a_larger_world_is_that_of_plain_loops(tmp_path, monkeypatch):
    monkeypatch.setattr("sciembed_train.corpus.mining.cocitation_mining.ROWS", 7)  # many batches
    world, mining = big_world(3), CocitationMining(cocitations_from="references")
    check(mine(tmp_path, world, mining), world, mining)


def ring(tmp_path, sizes, max_pairs, seed=0):
    """The pairs taken from reference lists of these sizes, by list."""
    starts = np.cumsum([0, *sizes])
    citations = np.array(
        [(900 + i, starts[i] + j) for i, size in enumerate(sizes) for j in range(size)],
        np.int32,
    )
    tmp_path.mkdir(parents=True, exist_ok=True)
    with running(tmp_path, 10**9, 1) as engine:
        miner = CocitationMiner(engine, CocitationMining(max_pairs=max_pairs), seed)
        miner.add_references(citations, np.ones(1000, np.bool_))
        miner.mine(np.zeros(1000, np.int8))
        rows = np.concatenate([pairs.rows for pairs in miner.pairs()])
        return [
            [tuple(r) for r in rows.tolist() if starts[i] <= r[0] < starts[i + 1]]
            for i in range(len(sizes))
        ], miner.cut()["reference lists"]


@pytest.mark.parametrize("max_pairs", [1, 4, 12, 30, 1000])
def test_a_long_list_gives_as_many_pairs_as_allowed_and_each_paper_its_share(tmp_path, max_pairs):
    sizes = list(range(1, 20))
    result, cut = ring(tmp_path, sizes, max_pairs)
    for size, pairs in zip(sizes, result, strict=True):
        every = size * (size - 1) // 2
        assert len(pairs) == len(set(pairs)) == min(every, max_pairs)
        times = Counter(paper for pair in pairs for paper in pair)
        if len(pairs) < every and len(pairs) >= size:  # every paper stood on the ring once
            assert len(times) == size
            assert max(times.values()) - min(times.values()) <= 2
    over = [n for n in (size * (size - 1) // 2 for size in sizes) if n > max_pairs]
    assert cut == (len(over), sum(over) - max_pairs * len(over))


def test_another_seed_takes_other_pairs_of_a_long_list(tmp_path):
    one, _ = ring(tmp_path / "0", [60], 100, seed=0)
    two, _ = ring(tmp_path / "1", [60], 100, seed=1)
    assert len(set(one[0]) & set(two[0])) < 30


def test_contexts_of_one_group_after_removal_are_merged(tmp_path):
    world = {
        "papers": [{"paper_id": n, "title": n if n != "z" else ""} for n in "abz"],
        "contexts": [
            {"text": f"{text} is a thing that we use", "cited_ids": cited, "citing_id": citing}
            for text, cited, citing in (
                ("this", ["a", "b"], "x"),
                ("that", ["b", "z", "a"], "y"),  # z has no text: the group is a, b again
                ("such", ["a", "gone", "b"], "w"),
            )
        ],
        "given": [],
        "citations": [],
        **{name: set() for name in ("dev", "test", "exclude")},
    }
    corpus = mine(tmp_path, world, CocitationMining())
    assert corpus.cocitations("train").tolist() == [[0, 1]]
    assert corpus.cocitation_counts("train").tolist() == [3]
    report = json.loads((corpus.folder / "report.json").read_text())["co-cited pairs"]
    assert report["groups"] == 1
    removed = {r: d["count"] for r, d in report["cited papers left out of contexts"].items()}
    assert removed == {"no title and no abstract": 1, "unknown paper": 1}


def test_every_dropped_context_is_counted_by_its_reason(tmp_path):
    long = "one two three four five six"
    rows = [
        (f"{long} (7)", ["a", "b"], "x"),
        (f"{long} (7)", ["b", "a"], "x"),  # the same once more
        (f"{long} (8)", ["a", "b"], "y"),  # but for digits
        (f"{long} seven (9)", ["a", "b"], "v"),
        (f"{long} eight (9)", ["a", "b"], "v"),  # same citing paper
        (long, ["a", "b"], "x"),  # no bracket
        ("too short (1)", ["a", "b"], "x"),
        (f"{long} " * 11 + "(1)", ["a", "b"], "x"),
        (f"{long} (1)", ["a", "b", "c", "d"], "x"),
        (f"{long} (1)", ["a"], "x"),
        (f"{long} (1)", ["a", "a"], "x"),
        (f"{long} (1)", [], "x"),
        (f"{long} (1)", ["a", "unknown"], "x"),
    ]
    abstract = ["A sentence of five words."] * 3
    world = {
        "papers": [{"paper_id": n, "title": n, "abstract": abstract} for n in "abcd"],
        "contexts": [
            {"text": text, "cited_ids": cited, "citing_id": citing} for text, cited, citing in rows
        ],
        "given": [],
        "citations": [],
        **{name: set() for name in ("dev", "test", "exclude")},
    }
    corpus = mine(tmp_path, world, CocitationMining.faithful())
    assert corpus.cocitation_counts("train").tolist() == [2]
    report = json.loads((corpus.folder / "report.json").read_text())["contexts"]
    dropped = {reason: d["count"] for reason, d in report["dropped"].items()}
    assert dropped == {
        "cites one paper only": 2,
        "cites no paper": 1,
        "of the papers it cites fewer than two are left": 1,
        "cites more than 3 papers (max_group)": 1,
        "fewer than 5 words (min_words)": 1,
        "more than 60 words (max_words)": 1,
        "no bracket (require_bracket)": 1,
        "given before": 1,
        "differs from another context of its group in digits alone": 1,
        "another context of its group in the same citing paper (one_per_citing)": 1,
    }
    assert report["rows"] == len(rows) == report["kept"] + sum(dropped.values())
    assert report["dropped"]["given before"]["examples"] == [f"{tmp_path / 'contexts.jsonl'}:2"]
    # All four papers stood in one sentence, so none is a negative of another.
    assert len(corpus.known_cocitations()) == 6


@pytest.mark.parametrize(
    ("abstract", "admitted"),
    [
        (["one two three four five."] * 3, True),
        (["one two three four five."] * 2, False),
        (["one two three four five."] * 21, False),
        (["one two three four."] * 5, False),
        (["one two three four five."] * 3 + ["word " * 81], False),
        ("First comes this here one. Then there is another. It ends (so it seems).", True),
        ("There are not 3.5 sentences, e.g. three, in this abstract of one text.", False),
        ("", False),
    ],
)
def test_abstracts_are_admitted_as_published(tmp_path, abstract, admitted):
    good = ["one two three four five."] * 3
    world = {
        "papers": [
            {"paper_id": n, "title": n, "abstract": abstract if n == "c" else good} for n in "abc"
        ],
        "contexts": [],
        "given": [{"paper_a": a, "paper_b": b} for a, b in ("ab", "bc")],
        "citations": [],
        **{name: set() for name in ("dev", "test", "exclude")},
    }
    corpus = mine(tmp_path, world, CocitationMining.faithful())
    assert corpus.cocitations("train").tolist() == [[0, 1]] + [[1, 2]] * admitted
    report = json.loads((corpus.folder / "report.json").read_text())
    left_out = report["co-cited pairs"]["papers in no pair"]
    assert left_out["an abstract that the filters leave out"] == 1 - admitted


def test_excluded_papers_are_in_no_pair_of_any_split(tmp_path):
    world = big_world(1)
    corpus = mine(tmp_path, world, CocitationMining(cocitations_from="references"))
    ids = corpus.paper_ids()
    for split in SPLITS:
        assert not {ids[i] for i in corpus.cocitations(split).ravel()} & world["exclude"]
    assert len(corpus.cocitations("train")) > 100


def test_references_of_papers_that_train_no_triplet_are_mined_all_the_same(tmp_path):
    # Nobody cites a citing paper, so there is no hard negative and no triplet.
    world = {
        "papers": [{"paper_id": n, "title": n} for n in "abcde"],
        "contexts": [],
        "given": [],
        "citations": [("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("b", "e")],
        **{name: set() for name in ("dev", "test", "exclude")},
    }
    corpus = mine(tmp_path, world, CocitationMining(cocitations_from="references"))
    assert corpus.cocitations("train").tolist() == [[2, 3], [2, 4], [3, 4]]
    assert corpus.cocitation_counts("train").tolist() == [2, 1, 1]
    assert len(corpus.triplets("train")) == 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_group": 1}, "max_group must be 2 or more; got 1"),
        ({"min_words": 9, "max_words": 8}, "min_words is 9 and max_words 8: nothing is both"),
        ({"min_sentences": 9, "max_sentences": 8}, "nothing is both"),
        ({"min_count": 0}, "min_count must be 1 or more"),
        ({"short_sentence": -1}, "short_sentence must be 0 or more"),
        ({"max_pairs": 10**7}, "max_pairs must be 1,000,000 or less"),
        ({"cocitations_from": "thin air"}, "it is one of given, references"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        replace(CocitationMining(), **values)
