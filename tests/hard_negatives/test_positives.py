from collections import defaultdict

import numpy as np
import pytest

import sciembed_train as st
from sciembed_train.errors import UserError
from sciembed_train.hard_negatives.positives import Positives
from tests.helpers.mining import training_pairs


def test_what_held_out_papers_cite_is_no_positive(corpus, vectors):
    splits = np.asarray(corpus.paper_splits())
    positives = Positives.of(corpus, np.ones(corpus.n_papers, np.bool_), 2)
    found = defaultdict(set)
    for place, query in enumerate(positives.queries.tolist()):
        found[query] = set(
            positives.papers[positives.starts[place] : positives.starts[place + 1]].tolist()
        )
    assert found == training_pairs(corpus)
    before = st.mine(corpus.folder, vectors=vectors[0], mask={"cocited": 0}).summary
    # Other citations of held-out papers: the positives' scores stay as they were.
    edges = np.asarray(corpus.citations()).copy()
    held_out = splits[edges[:, 0]] > 0
    edges[held_out, 1] = (edges[held_out, 1] + 1) % corpus.n_papers
    edges = np.unique(edges[edges[:, 0] != edges[:, 1]], axis=0)
    np.save(corpus.folder / "citations.npy", edges)
    after = st.mine(corpus.folder, vectors=vectors[0], mask={"cocited": 0}).summary
    assert after.positives == before.positives


def test_a_corpus_without_pairs_is_refused(corpus):
    with pytest.raises(UserError, match="holds no positives"):
        Positives.of(corpus, np.zeros(corpus.n_papers, np.bool_), 2)
