import json
import random
import re
from collections import defaultdict
from dataclasses import replace
from itertools import combinations

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.errors import UserError
from sciembed_train.sampling.citing_pairs import CitingSentencePairs
from tests.helpers.cocitation_collections import (
    SENTENCE,
    big_world,
    digest,
    mine,
    sentence_collection,
    split_of,
    stored,
    worlds,
)


def brute_force(world, mining):
    """The pairs as sets of (papers, citing paper, text, before), the sentences, in plain Python.

    And all papers that each text cites, digits aside.
    """
    known = {paper["paper_id"] for paper in world["papers"]}
    lists, by_text = defaultdict(dict), defaultdict(set)
    for context in world["contexts"]:
        if context["citing_id"] in world["exclude"]:
            continue
        cited = tuple(sorted(set(context["cited_ids"]) & known))
        words = len(context["text"].split())
        if len(cited) < (2 if mining.sentence_pairs == "set" else 1):
            continue
        if (
            set(context["cited_ids"]) & world["exclude"]
            or not mining.min_words <= words <= mining.max_words
        ):
            continue
        if mining.require_bracket and not re.search(r"[\[(]", context["text"]):
            continue
        context = stored(context, mining)
        texts = context["citing_id"], context["text"], context["before"], context["after"]
        by_text[without_digits(context["text"])] |= set(cited)
        key = digest("\0".join((str(digest("\0".join(cited))), *texts)))
        for name in [cited] if mining.sentence_pairs == "set" else cited:
            lists[name][key] = cited, context["citing_id"], context["text"], context["before"]
    pairs, sentences = set(), set()
    for result in lists.values():
        left, stripped, citing = [], set(), set()
        for _, sentence in sorted(result.items()):
            text = without_digits(sentence[2])
            if text in stripped:
                continue
            stripped.add(text)
            if mining.one_per_citing and sentence[1] in citing - {""}:
                continue
            citing.add(sentence[1])
            left.append(sentence)
        if len(left) >= max(2, mining.min_contexts):
            sentences |= set(left)
            pairs |= {frozenset(pair) for pair in combinations(left, 2)}
    return pairs, sentences, by_text


def without_digits(text):
    return " ".join(re.sub(r"\d", "", text).split())


def of_split(pair, world, by_text):
    texts = [without_digits(sentence[2]) for sentence in pair]
    return split_of([paper for text in texts for paper in by_text[text]], world)


def check(corpus, world, mining):
    """Every file of a corpus against the brute force."""
    pairs, sentences, by_text = brute_force(world, mining)
    ids = corpus.paper_ids()
    folder = corpus.folder / "sentence_pairs"
    rows = pq.read_table(folder / "sentences.parquet").to_pylist()
    assert [row["sentence"] for row in rows] == list(range(len(rows)))
    named = [
        (tuple(row["paper_ids"]), row["citing_id"], row["text"], row["before"]) for row in rows
    ]
    assert len(set(named)) == len(named)
    assert set(named) == sentences
    assert list(corpus.citing_sentences()) == [row["text"] for row in rows]
    papers, offsets = corpus.sentence_papers()
    assert len(offsets) == len(rows) + 1
    for row, start, end in zip(rows, offsets[:-1], offsets[1:], strict=True):
        cited = by_text[without_digits(row["text"])]
        assert papers[start:end].tolist() == sorted(ids.index(paper) for paper in cited)
        assert [ids[paper] for paper in row["papers"]] == row["paper_ids"]
        assert row["split"] == split_of(cited, world)
        _, line = row["place"].split(":")
        source = stored(world["contexts"][int(line) - 1], mining)
        assert [row[n] for n in ("text", "before", "after")] == [
            source[n] for n in ("text", "before", "after")
        ]
    counts = {}
    for split in SPLITS:
        result = corpus.sentence_pairs(split)
        assert result.dtype == np.int32
        assert result.tolist() == sorted(result.tolist())
        assert (result[:, 0] < result[:, 1]).all()
        wanted = {pair for pair in pairs if of_split(pair, world, by_text) == split}
        assert {frozenset((named[a], named[b])) for a, b in result} == wanted
        assert len(result) == len(wanted)
        table = pq.read_table(folder / f"{split}.parquet").to_pylist()
        assert [[row["a"], row["b"]] for row in table] == result.tolist()
        counts[split] = len(result)
    assert corpus.info["counts"]["sentence_pairs"] == counts
    assert corpus.info["counts"]["citing_sentences"] == len(rows)
    report = json.loads((corpus.folder / "report.json").read_text())["citing sentences"]
    dropped = sum(part["count"] for part in report["dropped"].values())
    assert report["rows"] == len(world["contexts"]) == report["kept"] + dropped


@pytest.mark.slow
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(worlds(), st.sampled_from(["set", "paper"]))
def test_pairs_of_sentences_are_those_of_plain_loops(tmp_path_factory, result, by):
    world, mining = result
    mining = replace(mining, sentence_pairs=by)
    folder = tmp_path_factory.mktemp("world")
    pairs, _, by_text = brute_force(world, mining)
    if any(of_split(pair, world, by_text) == "train" for pair in pairs):
        check(mine(folder, world, mining), world, mining)
        return
    entry = (
        "No training pair of sentences" if world["contexts"] else "there are no citing sentences"
    )
    with pytest.raises(UserError, match=entry):
        mine(folder, world, mining)
    assert not (folder / "corpus").exists()


def crowded_world(seed=0):
    """Many sentences that differ in more than their marks, and few papers that they cite."""
    world, rng = big_world(seed), random.Random(seed)
    for i, context in enumerate(world["contexts"]):
        context["cited_ids"] = rng.sample([f"n{n}" for n in range(6, 30)], rng.randint(1, 2))
        context["text"] += f" {chr(97 + i % 26)}{chr(97 + i // 26)}"
    return world


@pytest.mark.parametrize("by", ["set", "paper"])
def test_every_pair_of_a_larger_world_is_that_of_plain_loops(tmp_path, monkeypatch, by):
    monkeypatch.setattr("sciembed_train.corpus.mining.sentence_pair_mining.ROWS", 7)  # many batches
    world = crowded_world(3)
    mining = CocitationMining(sentence_pairs=by, max_pairs=10**5)
    corpus = mine(tmp_path, world, mining)
    check(corpus, world, mining)
    assert len(corpus.sentence_pairs("train")) > 10


def test_the_same_files_from_any_order_number_of_threads_and_memory(tmp_path):
    world, mining = crowded_world(), CocitationMining(sentence_pairs="paper", max_pairs=20)
    one = mine(tmp_path / "one", world, mining)
    other = {
        name: random.Random(1).sample(rows, len(rows)) if isinstance(rows, list) else rows
        for name, rows in world.items()
    }
    two = mine(tmp_path / "two", other, mining, threads=4, memory="700MB")
    names = sorted(path.name for path in (one.folder / "sentence_pairs").iterdir())
    assert names == sorted(
        ["papers.npy", "papers_offsets.npy", "sentences.parquet"]
        + [f"{split}.{ending}" for split in SPLITS for ending in ("npy", "parquet")]
    )
    for name in names:
        same = [corpus.folder / "sentence_pairs" / name for corpus in (one, two)]
        if name.endswith(".npy"):
            assert same[0].read_bytes() == same[1].read_bytes()
            continue
        a, b = (pq.read_table(path).to_pylist() for path in same)
        for row in (*a, *b):
            row.pop("place", None)
        assert a == b
    assert len(one.sentence_pairs("train")) > 90
    assert not np.array_equal(
        one.sentence_pairs("train"),
        mine(tmp_path / "seed", world, mining, seed=1).sentence_pairs("train"),
    )


def test_a_paper_that_many_cite_gives_as_many_pairs_as_allowed(tmp_path):
    rows = [(SENTENCE.format("abcdefghijklmnopqrst"[i]), "a", f"c{i}") for i in range(20)]
    mining = CocitationMining(sentence_pairs="paper", max_pairs=30)
    corpus = mine(tmp_path, sentence_collection(rows), mining)
    pairs = corpus.sentence_pairs("train")
    assert len(pairs) == 30
    assert set(np.bincount(pairs.ravel(), minlength=20).tolist()) <= {2, 3, 4}
    report = json.loads((corpus.folder / "report.json").read_text())["sentence pairs"]
    assert report["lists with more than 30 pairs"] == 1
    assert report["pairs of such lists not taken"] == 160


def test_a_text_of_several_rows_is_held_out_and_forbidden_by_all_that_it_cites(tmp_path):
    rows = [(SENTENCE.format(word), "a", "") for word in ("one", "two", "three")]
    rows += [(SENTENCE.format(word), "b", "") for word in ("four", "five")]
    twins = [(SENTENCE.format("three"), "t", ""), (SENTENCE.format("five"), "c", "")]
    others = [(SENTENCE.format("six"), "t", ""), (SENTENCE.format("seven"), "c", "")]
    world = sentence_collection([*rows, *twins, *others], "abct", test={"t"})
    corpus = mine(tmp_path, world, CocitationMining(sentence_pairs="paper"))
    texts = list(corpus.citing_sentences())
    train = {texts[i].split()[1] for i in corpus.sentence_pairs("train").ravel()}
    assert train == {"one", "two", "four", "five", "seven"}
    assert {texts[i].split()[1] for i in corpus.sentence_pairs("test").ravel()} >= {"three", "six"}
    pairs = CitingSentencePairs(corpus, "derangement", 0)
    five, four = (
        np.array([i for i, t in enumerate(texts) if t.split()[1] == w]) for w in ("five", "four")
    )
    assert len(five) == 2
    assert pairs.excluded_negatives(np.stack([five, five[::-1]], axis=1)).all()
    assert pairs.related(five, five[::-1]).all()
    assert pairs.related(four, five[:1]).all()


def test_papers_without_a_text_are_cited_like_others(tmp_path):
    rows = [(SENTENCE.format(word), "ab", "") for word in ("one", "two")]
    world = sentence_collection(rows)
    for paper in world["papers"]:
        paper["title"] = paper["paper_id"] if paper["paper_id"] in "cd" else ""
    corpus = mine(tmp_path, world, CocitationMining(sentence_pairs="set"))
    assert corpus.sentence_pairs("train").tolist() == [[0, 1]]
    assert len(corpus.cocitations("train")) == 0


def test_sentence_pairs_without_sentences_are_refused(tmp_path):
    world = sentence_collection([])
    world["citations"] = [("a", "b"), ("a", "c")]
    with pytest.raises(UserError, match="there are no citing sentences: give --contexts F"):
        mine(tmp_path, world, CocitationMining("references", sentence_pairs="set"))
    with pytest.raises(UserError, match="it is one of none, set, paper"):
        CocitationMining(sentence_pairs="all")
