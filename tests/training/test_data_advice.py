from types import SimpleNamespace

from sciembed_train.training.data_advice import data_advice


def advice(train, paper_pairs=None, test_queries=None):
    examples = SimpleNamespace(name="triplets", train=train, paper_pairs=paper_pairs)
    return list(data_advice(examples, test_queries))


def test_few_training_examples_are_named():
    (line,) = advice(999)
    assert "999 training triplets are too few to expect a gain; 1,000" in line
    assert advice(1_000) == []


def test_pairs_of_one_papers_texts_do_not_count():
    (line,) = advice(50_000, paper_pairs=12)
    assert "12 training pairs of two papers are too few" in line
    assert advice(50_000, paper_pairs=1_000) == []


def test_few_test_queries_are_named_where_there_is_a_verdict():
    (line,) = advice(1_000, test_queries=99)
    assert "compares 99 test queries" in line
    assert advice(1_000, test_queries=100) == []
