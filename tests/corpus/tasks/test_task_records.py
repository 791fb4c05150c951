from functools import partial

import numpy as np
import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.tasks.task_list import read_tasks
from sciembed_train.corpus.tasks.task_records import (
    NO_NEGATIVE,
    NO_POSITIVE,
    NO_TEXT,
    ONE_TEXT,
    Record,
    RecordReader,
)
from sciembed_train.corpus.tasks.task_types import TaskBuilding
from tests.helpers.task_files import entry, records, write_tasks


@pytest.fixture
def reader(tmp_path):
    """A reader of one of the tasks, by its name."""

    def made(kind, building=TaskBuilding(), **values):  # noqa: B008 - frozen
        folder = write_tasks(tmp_path, {kind: 1}, **{kind: values})
        result = RecordReader(read_tasks(folder).tasks[0], building)
        return lambda row, seed=0: result.read(row, partial(np.random.default_rng, seed))

    return made


def candidates(*scores, **fields):
    return [
        {"title": f"text {i}", "abstract": "", "score": score, **fields}
        for i, score in enumerate(scores)
    ]


def test_a_text_is_its_fields_that_are_not_empty_in_the_order_of_the_task(reader):
    read = reader("mesh", input_fields=["title", "abstract", "venue", "year"])
    row = {"year": 1964.0, "venue": "", "abstract": " b ", "title": "a", "descriptor": "history"}
    assert read(row) == Record((("a", "b", "1964"),), 2)
    year = {"year": 1964, "venue": float("nan"), "abstract": ["One. ", "Two."], "title": None}
    assert read(row | year) == Record((("One. Two.", "1964"),), 2)
    assert read(row | {"year": 2.5}).texts == (("a", "b", "2.5"),)
    assert read({**row, "title": "", "abstract": None, "year": ""}) == NO_TEXT


def test_an_abstract_may_be_left_out_and_no_other_field(reader):
    read = reader("mesh")
    assert read({"title": "a", "descriptor": "biology"}) == Record((("a",),), 0)
    with pytest.raises(BadRow) as error:
        read({"abstract": "a", "descriptor": "biology"})
    assert error.value == BadRow(
        "there is no title", "there is no `title`; the fields are abstract, descriptor."
    )


def test_labels_become_numbers(reader):
    assert reader("mesh")({"title": "a", "descriptor": "physics"}).label == 1
    read = reader("fos")
    assert read({"title": "a", "labels_text": ["history", "biology"]}).label == (0, 2)
    assert read({"title": "a", "labels_text": []}).label == ()
    read = reader("cite_pred")
    assert read({"title": "a", "log_citations": 3}).label == 3.0
    assert read({"title": "a", "log_citations": "2.5"}).label == 2.5  # as CSV has it
    read = reader("mesh", labels=["0", "1"])
    assert read({"title": "a", "descriptor": 1}).label == 1


@pytest.mark.parametrize(
    ("kind", "row", "report_text"),
    [
        ("mesh", {"descriptor": "law"}, "the text 'law', which is none of the 3 labels of"),
        ("mesh", {"descriptor": None}, "is null, which is none"),
        ("mesh", {"descriptor": ["physics"]}, "is a list of 1, which is none"),
        ("mesh", {}, "there is no `descriptor`"),
        ("fos", {"labels_text": "physics"}, "expected a list of labels"),
        ("fos", {"labels_text": ["physics", "law"]}, "the text 'law', which is none"),
        ("cite_pred", {"log_citations": float("nan")}, "expected a finite number"),
        ("cite_pred", {"log_citations": "many"}, "expected a finite number"),
        ("cite_pred", {"log_citations": 1e39}, "expected a finite number"),
        ("cite_pred", {"log_citations": None}, "is null; expected a finite number"),
        ("cite_pred", {"log_citations": True}, "expected a finite number"),
        ("mesh", {"title": 5j, "descriptor": "physics"}, "expected text, a number or null"),
        ("mesh", {"title": True, "descriptor": "physics"}, "expected text, a number or null"),
        ("mesh", {"title": "\ud800", "descriptor": "physics"}, "half of a surrogate pair"),
        ("specter", {"query": {"title": "a"}, "pos": {"title": "b"}}, "there is no `neg`"),
        ("specter", {"query": 5, "pos": "b", "neg": "c"}, "expected text, or an object"),
        ("specter", {"query": "a", "pos": {}, "neg": "c"}, "there is no `title` of `pos`"),
        ("s2and", {"query": "a"}, "there is no `candidates`"),
        ("s2and", {"query": "a", "candidates": "b"}, "expected a list of objects"),
        ("s2and", {"query": "a", "candidates": ["b"]}, "candidate 1 is the text 'b'"),
        ("s2and", {"query": "a", "candidates": [{"title": "b"}]}, "no `score` of candidate 1"),
        ("s2and", {"query": "a", "candidates": candidates(None)}, "`score` of candidate 1 is null"),
        ("s2and", {"query": "a", "candidates": [{"score": 1}]}, "no `title` of candidate 1"),
    ],
)
def test_what_is_wrong_with_a_record_is_told(reader, kind, row, report_text):
    with pytest.raises(BadRow) as error:
        reader(kind)({"title": "a", **row})
    result = error.value
    assert report_text in result.message


def test_a_triplet_is_three_different_texts(reader):
    read = reader("specter")
    row = records("specter", 1)[0]
    result = read(row)
    assert [text[0] for text in result.texts] == [row[k]["title"] for k in ("query", "pos", "neg")]
    assert result.pairs == ((1, 2),)
    other = {"query": "a", "positive": "b", "negative": "c"}  # our own names, bare texts
    assert read(other).texts == (("a",), ("b",), ("c",))
    assert read({**other, "negative": "b"}) == ONE_TEXT
    assert read({**other, "positive": {"title": ""}}) == NO_TEXT


def test_a_search_gives_as_many_triplets_as_negatives_at_most_five(reader):
    read = reader("s2and", TaskBuilding(negatives="last"))
    result = read({"query": "q", "candidates": candidates(1, 0, 2, *[0] * 7)})
    texts = [text[0] for text in result.texts]
    assert texts[0] == "q"
    triplets = [(texts[p], texts[n]) for p, n in result.pairs]
    # Positives go round, and negatives are the last of the list: as published.
    assert triplets == [
        ("text 0", "text 5"),
        ("text 2", "text 6"),
        ("text 0", "text 7"),
        ("text 2", "text 8"),
        ("text 0", "text 9"),
    ]
    few = read({"query": "q", "candidates": candidates(1, 1, 1, 1, 0, 0)})
    assert few.examples == 2
    assert [few.texts[p][0] for p, _ in few.pairs] == ["text 0", "text 1"]


def test_negatives_are_drawn_without_replacement_anew_for_every_record(reader):
    read = reader("s2and")
    row = {"query": "q", "candidates": candidates(1, 1, *[0] * 30)}
    seen = set()
    for seed in range(200):
        result = read(row, seed)
        assert result == read(row, seed)
        negatives = [result.texts[n] for _, n in result.pairs]
        assert len(set(negatives)) == 5
        assert {result.texts[p] for p, _ in result.pairs} == {("text 0",), ("text 1",)}
        seen.update(negatives)
    assert len(seen) == 30


def test_searches_without_a_positive_or_a_negative_give_nothing(reader):
    read = reader("s2and")
    assert read({"query": "q", "candidates": candidates(0, 0)}) == NO_POSITIVE
    assert read({"query": "q", "candidates": candidates(1, 2.5, True)}) == NO_NEGATIVE
    assert read({"query": "q", "candidates": []}) == NO_POSITIVE
    assert read({"query": " ", "candidates": candidates(0, 1)}) == NO_TEXT


def test_candidates_without_a_text_given_twice_or_equal_to_the_query_are_counted(reader):
    read = reader("s2and")
    given = candidates(1, 0)
    more = [
        {"title": "", "score": 0},  # no text
        {"title": "q", "score": 0},  # the query itself
        {"title": "text 0", "score": 0},  # the positive again
        {"title": "text 1", "score": 0},  # the negative again
    ]
    result = read({"query": "q", "candidates": [*given, *more]})
    assert (result.unused, result.examples) == (4, 1)
    assert result.texts == (("q",), ("text 0",), ("text 1",))
    assert read({"query": "q", "candidates": [given[0], *more[:1]]}) == NO_NEGATIVE
    assert read({"query": "text 0", "candidates": given}) == NO_POSITIVE


def test_every_published_kind_of_record_is_read(reader):
    for kind in ("cite_pred", "year_pred", "search", "cite_context"):
        row = records(kind, 1)[0]
        result = reader(kind)(row)
        assert isinstance(result, Record), kind
        assert result.examples == {"search": 5, "cite_context": 3}.get(kind, 1), entry(kind)
