import json

import numpy as np
import pytest

from sciembed_train.corpus.store.mined_negatives import read_negatives, write_negatives
from sciembed_train.errors import UserError
from tests.helpers.small_corpus import write_small_corpus


@pytest.fixture
def corpus(tiny_bert, tmp_path):
    return write_small_corpus(tmp_path / "corpus", tiny_bert)


def write(corpus, name="own", queries=(1, 4, 7)):
    negatives = np.array([[2, 3], [5, -1], [8, 9]])
    scores = np.array([[0.5, 0.25], [0.75, 0.0], [1.0, 0.5]])
    write_negatives(corpus, name, np.array(queries), negatives, scores, {"encoder": "e"})


def test_what_was_mined_is_read_again(corpus):
    write(corpus)
    found = read_negatives(corpus)
    assert found.name == "own"
    assert found.info["encoder"] == "e"
    assert found.scores.tolist() == [[0.5, 0.25], [0.75, 0.0], [1.0, 0.5]]
    assert found.scores.dtype == np.float16
    assert found.of(np.array([7, 0, 4, 59])).tolist() == [[8, 9], [-1, -1], [5, -1], [-1, -1]]


def test_one_of_several_is_named(corpus):
    with pytest.raises(UserError, match="no mined negatives"):
        read_negatives(corpus)
    write(corpus)
    write(corpus, "other")
    with pytest.raises(UserError, match="name one of other, own"):
        read_negatives(corpus)
    assert read_negatives(corpus, "other").name == "other"
    with pytest.raises(UserError, match="mined by 'third'"):
        read_negatives(corpus, "third")


def test_negatives_of_no_paper_or_order_are_refused(corpus):
    with pytest.raises(ValueError, match="must ascend"):
        write(corpus, queries=(4, 1, 7))
    with pytest.raises(ValueError, match="papers must be in"):
        write(corpus, queries=(1, 4, 60))
    with pytest.raises(ValueError, match="do not fit together"):
        write(corpus, queries=(1, 4))


def test_a_damaged_or_newer_folder_is_refused(corpus):
    write(corpus)
    marker = corpus.folder / "negatives" / "own" / "negatives.json"
    (marker.parent / "checksums.json").unlink()  # that a newer program would have written
    marker.write_text(json.dumps({"version": 9}))
    with pytest.raises(UserError, match="version 9"):
        read_negatives(corpus)
    marker.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        read_negatives(corpus)
