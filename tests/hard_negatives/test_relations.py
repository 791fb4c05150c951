from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.hard_negatives import relations as module
from sciembed_train.hard_negatives.positives import Positives
from sciembed_train.hard_negatives.relations import (
    PaperTexts,
    Relation,
    Relations,
    TwoHopPapers,
    slices,
)
from sciembed_train.sampling.related_mask import RelatedMask
from sciembed_train.sampling.related_papers import RelatedPapers

PAPERS = 12
paper = st.integers(0, PAPERS - 1)
pairs = st.lists(st.tuples(paper, paper).filter(lambda pair: pair[0] != pair[1]), max_size=40)
masks = st.builds(
    RelatedMask, st.booleans(), st.booleans(), st.integers(0, 3), st.booleans(), st.booleans()
)
numbers = st.lists(st.integers(0, 6), min_size=PAPERS, max_size=PAPERS)


def lists(rows):
    rows = np.unique(np.array(rows, np.int64).reshape(-1, 2), axis=0)
    return rows, np.searchsorted(rows[:, 0], np.arange(PAPERS + 1)).astype(np.int64)


def in_loops(mask, edges, given_pairs, positives, titles, contents, query, other):
    """The first reason, or None."""
    cited_by_each = {}
    for citing, cited in edges:
        cited_by_each.setdefault(citing, set()).add(cited)
    times = sum({query, other} <= cited for cited in cited_by_each.values())
    reasons = {
        Relation.ITSELF: query == other,
        Relation.POSITIVE: (query, other) in positives,
        Relation.CITES: mask.cites and (query, other) in edges,
        Relation.CITED_BY: mask.cited_by and (other, query) in edges,
        Relation.COCITED: mask.cocited
        and query != other
        and (times >= mask.cocited or (min(query, other), max(query, other)) in given_pairs),
        Relation.SAME_TITLE: mask.same_title and 0 != titles[query] == titles[other],
        Relation.SAME_TEXT: mask.same_text and 0 != contents[query] == contents[other],
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


@settings(deadline=None)
@given(masks, pairs, pairs, pairs.filter(len), numbers, numbers, st.integers(1, 12))
def test_what_is_related_is_the_definition_in_loops(
    mask, edges, cocited, positives, titles, contents, size
):
    citations, _ = lists(edges)
    together = {(min(pair), max(pair)) for pair in cocited} if mask.cocited else set()
    keys = np.array(sorted(a * PAPERS + b for a, b in together), np.int64)
    rows, _ = lists(positives)
    queries, first = np.unique(rows[:, 0], return_index=True)
    opened = Positives(queries, np.append(first, len(rows)).astype(np.int64), rows[:, 1])
    texts = PaperTexts(
        np.ones(PAPERS, np.bool_), np.array(titles, np.int64), np.array(contents, np.int64)
    )
    related = RelatedPapers(mask, PAPERS, citations, keys, texts.titles)
    relations = Relations(related, opened, texts)
    known = set(map(tuple, rows.tolist()))
    edge_set = set(map(tuple, citations.tolist()))
    expected = {}
    for query, other in product(queries.tolist(), range(PAPERS)):
        reason = in_loops(mask, edge_set, together, known, titles, contents, query, other)
        if reason is not None:
            expected[query, other] = reason
    found = {}
    kept, module.PAIRS_AT_ONCE = module.PAIRS_AT_ONCE, 7  # several slices a block
    try:
        for start in range(0, len(queries), size):
            block = relations.of(start, min(start + size, len(queries)))
            for place, other, reason in zip(
                block.query.tolist(), block.paper.tolist(), block.relation.tolist(), strict=True
            ):
                assert (queries[start + place], other) not in found
                found[int(queries[start + place]), other] = Relation(reason)
    finally:
        module.PAIRS_AT_ONCE = kept
    assert found == expected


@settings(deadline=None)
@given(
    pairs,
    st.lists(
        st.tuples(paper, st.lists(st.integers(-1, PAPERS - 1), min_size=3, max_size=3)), min_size=1
    ),
)
def test_two_hops_are_those_of_loops(edges, asked):
    rows, starts = lists(edges)
    queries = np.array([query for query, _ in asked], np.int64)
    papers = np.array([others for _, others in asked], np.int64)
    edge_set = set(map(tuple, rows.tolist()))
    kept, module.PAIRS_AT_ONCE = module.PAIRS_AT_ONCE, 5
    try:
        near = TwoHopPapers(rows[:, 1], starts).among(queries, papers)
    finally:
        module.PAIRS_AT_ONCE = kept
    for place, (query, others) in enumerate(asked):
        for column, other in enumerate(others):
            expected = any(
                (query, between) in edge_set and (between, other) in edge_set
                for between in range(PAPERS)
            )
            assert near[place, column] == expected


@given(st.lists(st.integers(0, 9), min_size=1), st.integers(1, 20))
def test_slices_cover_all_and_are_as_heavy_as_they_may_be(weights, most):
    found = list(slices(np.array(weights, np.int64), most))
    assert [low for low, _ in found] == [0, *(high for _, high in found[:-1])]
    assert found[-1][1] == len(weights)
    assert all(sum(weights[low:high]) < most + max(weights) for low, high in found)
