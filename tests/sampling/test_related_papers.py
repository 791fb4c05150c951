import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sciembed_train.sampling.related_mask import RelatedMask
from sciembed_train.sampling.related_papers import (
    RelatedPapers,
    Texts,
    equal_pairs,
    text_contents,
)

PAPERS = 12


def in_loops(mask, citations, known, titles, queries, positives, candidates, own):
    """The definition, a query and a candidate at a time."""
    edges = {tuple(edge) for edge in citations.tolist()}
    cited_by_each = {}
    for citing, cited in edges:
        cited_by_each.setdefault(citing, set()).add(cited)

    def cocited(one, other):
        times = sum({one, other} <= cited for cited in cited_by_each.values())
        key = min(one, other) * PAPERS + max(one, other)
        return one != other and (times >= mask.cocited or key in known)

    pairs = []
    for i, j in product(range(len(queries)), range(len(candidates))):
        q, p, c = queries.papers[i], positives.papers[i], candidates.papers[j]
        related = (
            c in (q, p)
            or (mask.cites and (q, c) in edges)
            or (mask.cited_by and (c, q) in edges)
            or (mask.cocited and cocited(q, c))
            or (mask.same_title and titles[q] != 0 and titles[q] == titles[c])
            or (
                mask.same_text
                and candidates.contents[j] in (queries.contents[i], positives.contents[i])
            )
        )
        if related and j != own[i]:
            pairs.append((i, j))
    return pairs


paper = st.integers(0, PAPERS - 1)
edges = st.lists(st.tuples(paper, paper).filter(lambda edge: edge[0] != edge[1]), max_size=40)
masks = st.builds(
    RelatedMask, st.booleans(), st.booleans(), st.integers(0, 3), st.booleans(), st.booleans()
)


@st.composite
def steps(draw):
    count = draw(st.integers(1, 8))
    more = draw(st.integers(0, 4))
    texts = [
        Texts(
            np.array(draw(st.lists(paper, min_size=n, max_size=n)), np.int64),
            np.array(draw(st.lists(st.integers(0, 20), min_size=n, max_size=n)), np.int64),
        )
        for n in (count, count, more)
    ]
    known = draw(st.lists(st.tuples(paper, paper).filter(lambda pair: pair[0] < pair[1])))
    titles = draw(st.lists(st.integers(0, 6), min_size=PAPERS, max_size=PAPERS))
    return texts, known, np.array(titles, np.int64)


@given(masks, edges, steps())
def test_the_mask_is_the_definition_in_loops(mask, citations, step):
    (queries, positives, hard), known, titles = step
    citations = np.unique(np.array(citations, np.int32).reshape(-1, 2), axis=0)
    keys = np.unique([a * PAPERS + b for a, b in known]).astype(np.int64)
    keys = keys if mask.cocited else keys[:0]
    related = RelatedPapers(mask, PAPERS, citations, keys, titles)
    candidates, own = positives.followed_by(hard), np.arange(len(queries))
    expected = in_loops(
        mask, citations, set(keys.tolist()), titles, queries, positives, candidates, own
    )
    actual = related.excluded(queries, positives, candidates, own)
    assert list(map(tuple, actual.tolist())) == expected
    back = related.excluded(positives, queries, queries, own)
    expected = in_loops(
        mask, citations, set(keys.tolist()), titles, positives, queries, queries, own
    )
    assert list(map(tuple, back.tolist())) == expected


def test_a_corpus_without_citations_has_what_it_was_given():
    related = RelatedPapers(RelatedMask(), 4, None, np.array([1 * 4 + 2]), np.zeros(4, np.int64))
    texts = Texts(np.arange(4), np.arange(4))
    far = Texts(np.full(4, 0), np.arange(4))
    excluded = related.excluded(texts, far, texts, np.full(4, 3))
    assert [1, 2] in excluded.tolist()
    assert [2, 1] in excluded.tolist()
    assert [1, 3] not in excluded.tolist()


@pytest.mark.slow
def test_thousands_of_pairs_take_tens_of_milliseconds():
    rng = np.random.default_rng(0)
    papers, count = 200_000, 4096
    citations = np.unique(rng.integers(0, papers, (2_000_000, 2)).astype(np.int32), axis=0)
    related = RelatedPapers(
        RelatedMask(), papers, citations, np.empty(0, np.int64), np.zeros(papers, np.int64)
    )
    pairs = citations[rng.permutation(len(citations))[:count]].astype(np.int64)
    sides = [Texts(column, np.arange(count) + count * side) for side, column in enumerate(pairs.T)]
    taken = []
    for _ in range(3):
        start = time.process_time()
        excluded = related.excluded(*sides, sides[1], np.arange(count))
        taken.append(time.process_time() - start)
    assert len(excluded) > 0
    assert min(taken) < 0.5, taken  # 0.03 s alone on a core of an AMD EPYC


def test_equal_numbers_are_paired():
    pairs = equal_pairs(np.array([3, 1, 3]), np.array([3, 2, 1, 3]))
    assert sorted(map(tuple, pairs.tolist())) == [(0, 0), (0, 3), (1, 2), (2, 0), (2, 3)]


def test_texts_of_equal_tokens_have_equal_contents():
    lengths = np.array([2, 3, 2, 2])
    one, two, three, four = text_contents(np.array([5, 6, 5, 6, 7, 5, 6, 6, 5]), lengths)
    assert one == three
    assert len({one, two, four}) == 3
    assert not len(text_contents(np.empty(0, np.int64), np.empty(0, np.int64)))
