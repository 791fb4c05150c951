import time

import numpy as np

from sciembed_train.synthetic import SyntheticSettings, generate_collection, shuffle_cited
from tests.helpers.synthetic_papers import SMALL


def in_degree(citations, papers):
    return np.bincount(citations[:, 1], minlength=papers)


def test_the_older_paper_is_cited_and_none_twice(collection):
    citing, cited = collection.citations.T
    assert (cited < citing).all()
    assert (collection.year[cited] <= collection.year[citing]).all()
    assert len(np.unique(collection.citations, axis=0)) == len(collection.citations)
    assert collection.citations.min() >= 0
    assert collection.citations.max() < SMALL.papers


def test_citations_follow_topics_and_cross_dialects(collection):
    citing, cited = collection.citations.T
    assert (collection.topic[citing] == collection.topic[cited]).mean() > 0.5
    assert (collection.dialect[citing] == collection.dialect[cited]).mean() < 1 / SMALL.dialects


def test_citations_have_a_heavy_tail():
    collection = generate_collection(SyntheticSettings(papers=5000, seed=0))
    degree = np.sort(in_degree(collection.citations, 5000))[::-1]
    assert degree[0] > 10 * degree.mean()
    # A Poisson law of the same mean would give the top hundredth about 2.6 times the mean.
    assert degree[:50].mean() > 4 * degree.mean()
    assert (degree == 0).mean() > 0.01


def test_shuffled_citations_say_nothing_about_topics(collection):
    shuffled = shuffle_cited(collection.citations, SMALL.papers, np.random.default_rng(0))
    assert len(shuffled) > 0.99 * len(collection.citations)
    agree = collection.topic[shuffled[:, 0]] == collection.topic[shuffled[:, 1]]
    chance = np.sum((np.bincount(collection.topic) / SMALL.papers) ** 2)
    assert agree.mean() < 1.5 * chance
    degrees = [in_degree(edges, SMALL.papers) for edges in (collection.citations, shuffled)]
    assert abs(np.corrcoef(degrees)[0, 1]) < 0.15


def test_ten_thousand_papers_take_seconds():
    began = time.process_time()
    collection = generate_collection(SyntheticSettings(papers=10_000))
    assert sum(1 for _ in collection.papers()) == 10_000
    assert len(collection.citations) > 50_000
    assert time.process_time() - began < 10
