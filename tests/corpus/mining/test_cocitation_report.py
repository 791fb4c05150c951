import numpy as np
import pytest

from sciembed_train.corpus.citations.usable_papers import EXCLUDED, FILTERED
from sciembed_train.corpus.mining.cocitation_report import no_pairs_message
from sciembed_train.corpus.papers import Papers

PAPERS = Papers(["a", "b"], {"a": 0, "b": 1}, np.array([True, False]))
NO_PAIRS = {"train": 0, "dev": 0, "test": 0}


def message(pairs=NO_PAIRS, known=0, report=(), **facts):
    entry = {"pairs": pairs, "known pairs": known, **facts}
    return no_pairs_message({"co-cited pairs": entry, **dict(report)}, PAPERS)


def test_rows_and_reasons_are_counted():
    rows = {"rows": 1000, "kept": 2, "malformed": {}}
    rows["dropped"] = {"cites no paper": {"count": 998, "examples": ["c.jsonl:1"]}}
    text = message(report={"contexts": rows})
    assert "Of 2 papers 1 have a text. Of 1,000 contexts 2 can be used" in text
    assert "(998: cites no paper, the first at c.jsonl:1)." in text
    assert text.endswith("Give contexts that cite two or more papers, with texts for these, and "
                         "check that the files name papers by the same ids.")  # fmt: skip


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        ({"pairs": NO_PAIRS | {"dev": 3}}, "All pairs are held out (dev 3, test 0)"),
        ({"known": 1200}, "1,200 pairs are known to be co-cited, and the filters"),
        (
            {"cited papers left out of contexts": {EXCLUDED: {"count": 4}}},
            "Cited papers left out of contexts: 4: excluded. Exclude fewer papers",
        ),
        (
            {"cited papers left out of contexts": {FILTERED: {"count": 1}}},
            "Set the filters on abstracts wider",
        ),
        (
            {"citations of full texts that name no paper": {"no id": {"count": 7}}},
            "Citations of full texts that name no paper: 7: no id.",
        ),
        ({"papers that cite two or more": 5}, "5 papers cite two or more of them."),
    ],
)
def test_the_message_says_what_to_do(values, remedy):
    assert remedy in message(**values)
