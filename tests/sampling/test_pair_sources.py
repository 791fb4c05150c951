"""Where citation pairs come from."""

import numpy as np
import pytest

from sciembed_train.errors import UserError
from sciembed_train.sampling.citation_texts import TextKind
from sciembed_train.sampling.pair_sources import SourceWeights
from tests.helpers.citation_corpus import citation_pairs


def test_each_source_pairs_the_texts_that_it_names(opened):
    found = citation_pairs(opened)
    assert [source.name for source in found.sources] == [
        "citations",
        "cocitations",
        "title_abstract",
        "abstract_halves",
    ]
    papers, splits = (
        opened.corpus.n_papers,
        np.asarray(opened.corpus.paper_splits()),
    )
    citations, cocitations, titles, halves = found.sources
    known = {tuple(pair) for pair in opened.corpus.citations().tolist()}
    assert {tuple(pair) for pair in citations.train.tolist()} <= known
    assert (splits[citations.train[:, 0]] == 0).all()
    assert (splits[citations.held_out[:, 0]] == 1).all()
    assert len(cocitations.train) == len(opened.corpus.cocitations("train"))
    rows = list(opened.corpus.papers())
    whole = [r["paper"] for r in rows if (r["abstract"] or "").strip() and splits[r["paper"]] == 0]
    assert (titles.train % papers)[:, 0].tolist() == whole
    assert titles.train[0].tolist() == [papers + whole[0], 2 * papers + whole[0]]
    assert (halves.train // papers == [TextKind.FIRST_HALF, TextKind.SECOND_HALF]).all()
    assert 0 < len(halves.train) <= len(titles.train)
    assert not set(titles.held_out[:, 0]) & set(titles.train[:, 0])


def test_weights_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="must be 0 or more"):
        SourceWeights(citations=-1.0)
    with pytest.raises(UserError, match="are all 0"):
        SourceWeights(0.0, 0.0, 0.0, 0.0)
