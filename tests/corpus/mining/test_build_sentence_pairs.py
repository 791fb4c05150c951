import json

import pytest

from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.errors import UserError
from tests.helpers.cocitation_collections import (
    SENTENCE,
    mine,
    sentence_collection,
)


def test_every_sentence_left_out_is_counted_by_its_reason(tmp_path):
    rows = [
        (SENTENCE.format("one (7)"), "ab", "x"),
        (SENTENCE.format("one (7)"), "ba", "x"),  # the same once more
        (SENTENCE.format("one (8)"), "ab", "y"),  # but for digits
        (SENTENCE.format("two"), "ab", "z"),
        (SENTENCE.format("three"), "ab", "z"),  # same citing paper
        (SENTENCE.format("two"), "bc", "x"),  # alone
        ("too short", "ab", "x"),
        (SENTENCE.format("one"), "a", "x"),
        (SENTENCE.format("one"), "", "x"),
        (SENTENCE.format("one"), ["a", "unknown"], "x"),
        (SENTENCE.format("one"), "ad", "x"),
        (SENTENCE.format("four"), ["a", "b", "of no known paper"], "v"),
    ]
    world = sentence_collection(rows, exclude={"d", "of no known paper"})
    corpus = mine(tmp_path, world, CocitationMining(sentence_pairs="set"))
    assert corpus.sentence_pairs("train").tolist() == [[0, 1]]
    report = json.loads((corpus.folder / "report.json").read_text())
    dropped = {r: d["count"] for r, d in report["citing sentences"]["dropped"].items()}
    assert dropped == {
        "given before": 1,
        "differs from another sentence that cites the same in digits alone": 1,
        "another sentence of the same citing paper cites the same (one_per_citing)": 1,
        "too few other sentences cite the same (min_contexts, and 2 in any case)": 1,
        "fewer than 5 words (min_words)": 1,
        "cites one paper only": 1,
        "cites no paper": 1,
        "of the papers it cites fewer than two are known": 1,
        "cites an excluded paper": 2,
    }
    left_out = report["sentence pairs"]["cited papers left out of sentences"]
    assert {r: d["count"] for r, d in left_out.items()} == {"unknown paper": 2}


def test_sentences_that_cite_one_paper_need_the_other_way(tmp_path):
    world = sentence_collection([(SENTENCE.format(word), "a", "") for word in ("one", "two")])
    with pytest.raises(UserError, match=r"2: cites one paper only.*--sentence-pairs paper"):
        mine(tmp_path, world, CocitationMining(sentence_pairs="set"))
    corpus = mine(tmp_path, world, CocitationMining(sentence_pairs="paper"))
    assert corpus.sentence_pairs("train").tolist() == [[0, 1]]


def test_pairs_that_are_all_held_out_are_refused(tmp_path):
    world = sentence_collection(
        [(SENTENCE.format(word), "ab", "") for word in ("one", "two")], dev={"b"}
    )
    with pytest.raises(UserError, match=r"All pairs are held out \(dev 1, test 0\)"):
        mine(tmp_path, world, CocitationMining(sentence_pairs="set"))
