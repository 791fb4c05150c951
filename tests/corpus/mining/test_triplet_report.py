import numpy as np
import pytest

from sciembed_train.corpus.mining.triplet_mining import Triplets
from sciembed_train.corpus.mining.triplet_report import explain_triplets, no_triplets_message
from sciembed_train.corpus.papers import Papers

PAPERS = Papers(list("abc"), {n: i for i, n in enumerate("abc")}, np.array([1, 1, 0], bool))


def test_citations_without_a_text_and_queries_without_hops_are_counted():
    triplets = Triplets(
        rows=np.empty((0, 3), np.int32),
        hard=np.empty(0, bool),
        queries=np.array([0], np.int32),
        without_hops=np.array([0], np.int32),
        unfilled=2,
    )
    counts = {"queries": {"train": 1}, "triplets": {"train": 0}, "hard": {"train": 0}}
    citations = np.array([[0, 1], [1, 2]], np.int32)
    split = np.array([1, 0, 0], np.int8)
    facts = explain_triplets(triplets, split, counts, PAPERS, citations)
    assert facts["citations with a text at both ends"] == 1
    assert facts["citations left out for want of a text"] == {
        "count": 1,
        "examples": ["b cites c"],
    }
    without = facts["queries left out for want of a hard negative"]
    assert without == {
        "count": 1,
        "by split": {"train": 0, "dev": 1, "test": 0},
        "examples": ["a"],
    }
    assert facts["triplets not made: no paper left for an easy negative"] == 2


def facts_of(both, queries, without_hops=0):
    return {
        "citations with a text at both ends": both,
        "queries": {"train": queries, "dev": 1, "test": 0},
        "queries left out for want of a hard negative": {"by split": {"train": without_hops}},
    }


@pytest.mark.parametrize(
    ("facts", "remedy"),
    [
        (facts_of(0, 0), "Give texts for more papers"),
        (facts_of(9, 3, 3), "3 training queries have no hard negative"),
        (facts_of(9, 0), "Every query is held out: lower --dev-share and --test-share."),
        (facts_of(9, 3), "No paper is left that could be an easy negative"),
    ],
)
def test_the_message_says_what_to_do(facts, remedy):
    rows = {"rows": 10, "kept": 9, "malformed": {}, "notes": ["A note."]}
    rows["dropped"] = {"a paper citing itself": {"count": 1, "examples": ["c.csv:3"]}}
    text = no_triplets_message({"citations": rows, "triplets": facts}, PAPERS)
    assert text.startswith("No training triplet can be made. Of 3 papers 2 have a text. Of 10 ")
    assert "9 can be used (1: a paper citing itself, the first at c.csv:3). A note." in text
    assert remedy in text


def test_ready_triplets_need_the_same_ids():
    rows = {"rows": 1, "kept": 0, "malformed": {}, "dropped": {}, "notes": []}
    text = no_triplets_message({"pairs": rows, "triplets": {}}, PAPERS)
    assert text.endswith(
        "The ids in both files must agree, and each split needs queries of its own."
    )
