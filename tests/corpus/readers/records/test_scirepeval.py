import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.records.scirepeval import SciRepEval
from sciembed_train.corpus.validation import read_paper

SHA = "a" * 40
OF_A_TEST = {"doc_id": SHA, "corpus_id": 17, "title": "One", "abstract": None, "year": 2001.0}
OF_TRAINING = {"corpus_id": 17, "title": "One", "abstract": "Text.", "labels": [1]}
OF_TRIPLETS = {"sha": SHA, "corpus_id": 17, "title": "One", "abstract": "Text."}


def read(row):
    return read_paper(SciRepEval().paper(row))


@pytest.mark.parametrize(
    ("row", "paper_id", "other_ids"),
    [
        (OF_A_TEST, SHA, ("corpusid:17",)),
        ({**OF_A_TEST, "corpus_id": None}, SHA, ()),
        (OF_TRAINING, "17", ()),
        (OF_TRIPLETS, "17", (SHA,)),
    ],
)
def test_a_paper_has_the_id_of_a_document_else_of_the_corpus(row, paper_id, other_ids):
    assert SciRepEval().recognises(row)
    paper = read(row)
    assert (paper.paper_id, paper.other_ids, paper.title) == (paper_id, other_ids, "One")


@pytest.mark.parametrize(
    "row",
    [{"query": OF_TRIPLETS, "pos": OF_TRIPLETS, "neg": None}, {"query": "words", "candidates": []}],
)
def test_a_record_of_a_task_is_told_with_where_it_belongs(row):
    assert SciRepEval().recognises(row)
    with pytest.raises(BadRow, match="a record of a task") as bad:
        read(row)
    assert "--tasks" in bad.value.message


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"title": "no id"}, "there is no doc_id"),
        ({**OF_TRAINING, "corpus_id": [1]}, "paper_id has a wrong type"),
        ({**OF_TRAINING, "abstract": 7}, "abstract has a wrong type"),
    ],
)
def test_what_is_missing_or_of_a_wrong_type_is_told(row, reason):
    with pytest.raises(BadRow) as bad:
        read(row)
    assert bad.value.reason == reason
