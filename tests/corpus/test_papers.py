import numpy as np

from sciembed_train.corpus.papers import Papers

IDS = ["10.1000/x", "a", "b"]
PAPERS = Papers(
    IDS,
    {i: number for number, i in enumerate(IDS)},
    np.array([1, 1, 0], bool),
    np.array([0, 1, 1], np.int32),
    other_ids={"pmid:7": 2},
)


def test_ids_are_spelled_as_the_papers_have_them():
    given = ["doi:10.1000/X", "a", "PMID:7", "unknown"]
    assert PAPERS.as_spelled(given) == ["10.1000/x", "a", "b", "unknown"]


def test_papers_of_one_text_are_found_together():
    assert PAPERS.same_text({"b"}) == {"a", "b"}
    assert PAPERS.key == {"10.1000/x": 0, "a": 1, "b": 1}
    assert PAPERS.candidates.tolist() == [True, True, False]


def test_without_same_texts_each_is_its_own():
    papers = Papers(["a", "b"], {"a": 0, "b": 1}, np.ones(2, bool))
    assert papers.first.tolist() == [0, 1]
