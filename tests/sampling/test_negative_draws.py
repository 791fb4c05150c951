import numpy as np

from sciembed_train.corpus.store.mined_negatives import MinedNegatives
from sciembed_train.sampling.negative_draws import TwoHop, distinct_draws, drawn_negatives

MINED = MinedNegatives(
    name="own",
    info={},
    queries=np.array([1, 4, 6], np.int32),
    negatives=np.array([[2, 3, 5], [7, -1, -1], [8, 2, -1]], np.int32),
    scores=np.zeros((3, 3), np.float16),
)


def test_mined_negatives_are_consecutive_ranks_from_a_random_one_on():
    papers = np.array([1, 1, 1, 4, 5, 6])
    draws = np.array([[x, 0, 0, 0] for x in (0.0, 0.4, 0.9, 0.9, 0.5, 0.6)])
    drawn = drawn_negatives(MINED, papers, draws)
    assert drawn.tolist() == [[2, 3], [3, 5], [5, 2], [7, -1], [-1, -1], [2, 8]]


def test_papers_without_a_text_are_not_drawn_and_none_twice():
    lengths = np.array([9, 9, 0, 9, 9, 9, 9, 9, 9])
    papers, draws = np.array([1, 6]), np.zeros((2, 4))
    assert distinct_draws(MINED, papers, draws, lengths).tolist() == [[-1, 3], [8, -1]]

    class Repeats(TwoHop):
        def __init__(self):
            pass

        def step(self, papers, draws):
            return np.full(len(papers), 3)

    drawn = distinct_draws(Repeats(), papers, np.zeros((2, 6)), lengths)
    assert drawn.tolist() == [[3, -1, -1]] * 2


def test_two_hops_go_along_citations_of_training_papers(opened):
    hops = TwoHop(opened.corpus)
    splits = np.asarray(opened.corpus.paper_splits())
    edges = {tuple(edge) for edge in opened.corpus.citations().tolist()}
    papers, draws = np.arange(60), np.random.default_rng(0).random(60)
    cited = hops.step(papers, draws)
    for paper, other in zip(papers.tolist(), cited.tolist(), strict=True):
        assert (other == -1) == (splits[paper] > 0 or not any(paper == p for p, _ in edges))
        assert other == -1 or (paper, other) in edges
    assert hops.step(np.array([-1]), np.array([0.5])).tolist() == [-1]
