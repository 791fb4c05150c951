import json

import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.envelopes import records_of
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.errors import UserError
from sciembed_train.inference.paper_file import PaperFile
from tests.helpers.data_files import read_table

RECORDS = [{"id": f"p{i}", "title": f"title {i}"} for i in range(3)]
ANSWERS = {
    "openalex": {"meta": {"count": 3}, "results": RECORDS, "group_by": []},
    "search of Semantic Scholar": {"total": 9, "offset": 0, "next": 3, "data": RECORDS},
    "recommendations": {"recommendedPapers": RECORDS},
    "data first": {"data": RECORDS, "token": None},
    "crossref": {
        "status": "ok",
        "message-type": "work-list",
        "message": {"facets": {}, "total-results": 9, "items": RECORDS, "items-per-page": 3},
    },
    "crossref's dump": {"items": RECORDS},
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_gives_the_records_in_it(tmp_path, answer):
    assert records_of(answer) == RECORDS
    for name, text in (
        ("a.json", json.dumps(answer)),
        ("indented.json", json.dumps(answer, indent=1)),
        ("list.json", json.dumps([answer])),
        ("a.jsonl", json.dumps(answer) + "\n"),
    ):
        (tmp_path / name).write_text(text)
        assert [row for _, row in read_table(tmp_path / name)] == RECORDS


def test_several_answers_give_the_records_of_all_each_with_its_place(tmp_path):
    answers = [ANSWERS["openalex"], {"meta": {}, "results": [{"id": "q"}, None]}]
    lines = "\n".join(map(json.dumps, answers))
    for name, text in (("a.json", json.dumps(answers)), ("b.jsonl", lines), ("c.json", lines)):
        path = tmp_path / name
        path.write_text(text)
        table = Table(path, "papers")
        rows = list(table.rows())
        assert [row for _, row in rows[:4]] == [*RECORDS, {"id": "q"}]
        places = [table.where(place) for place, _ in rows]
        assert places == [f"{path}, record {n}" for n in (1, 2, 3, 4, 5)]
    path = tmp_path / "indented.json"
    path.write_text('{\n"total": 2,\n"data": [\n{"id": 1},\n{"id": 2}]}')
    table = Table(path, "papers")
    assert [table.where(place) for place, _ in table.rows()] == [f"{path}:4", f"{path}:5"]


def test_one_work_of_crossref_is_a_record(tmp_path):
    work = {"indexed": {"date-parts": [[2020]]}, "DOI": "10.1/x", "title": ["One"]}
    for value in ({"status": "ok", "message": work}, work, [work]):
        (tmp_path / "w.json").write_text(json.dumps(value))
        assert [row for _, row in read_table(tmp_path / "w.json")] == [work]


@pytest.mark.parametrize(
    "records",
    [
        {"meta": {"title": "a"}, "results": {"title": "b"}},
        {"x": {"title": "a"}, "message": {"title": "b"}},
        {"meta": {"title": "a"}},
    ],
)
def test_an_object_of_records_by_id_stays_what_it_is(tmp_path, records):
    (tmp_path / "r.json").write_text(json.dumps(records))
    rows = [row for _, row in read_table(tmp_path / "r.json")]
    assert rows == [{"paper_id": key, **value} for key, value in records.items()]


@pytest.mark.parametrize(
    "record",
    [
        {"paper_id": "1", "title": "t", "data": [{"a": 1}]},
        {"id": "1", "title": "t", "results": [], "meta": {}},
        {"total": 1, "title": "t"},
    ],
)
def test_a_record_with_such_a_key_among_others_is_a_record(tmp_path, record):
    assert records_of(record) is None
    for name in ("r.json", "r.jsonl"):
        (tmp_path / name).write_text(json.dumps(record))
        assert [row for _, row in read_table(tmp_path / name)] == [record]


def test_papers_that_the_service_does_not_know_are_counted_and_never_fatal(tmp_path):
    (tmp_path / "batch.json").write_text(json.dumps([None, RECORDS[0], None]))
    papers = PaperFile(tmp_path / "batch.json")
    assert len(papers) == 1
    assert papers.malformed == 0
    assert papers.notes == ["2 rows are left out: null in the place of a record."]


@pytest.mark.parametrize(
    "answer",
    [
        {"error": "Paper with id 7 not found"},
        {"message": "Too Many Requests", "code": "429"},
        {"error": "x", "message": "y"},
    ],
)
def test_an_answer_without_a_paper_is_told_with_what_it_says(tmp_path, answer):
    said = next(iter(answer.values()))
    for name in ("a.json", "a.jsonl"):
        (tmp_path / name).write_text(json.dumps(answer))
        ((_, bad),) = read_table(tmp_path / name)
        assert isinstance(bad, BadRow)
        assert repr(said) in bad.message
        with pytest.raises(UserError, match=r"a\.jsonl?(:1|, record 1): this is no paper but the"):
            PaperFile(tmp_path / name)


def test_an_answer_without_records_gives_none(tmp_path):
    (tmp_path / "a.json").write_text('{"meta": {"count": 0}, "results": []}')
    assert read_table(tmp_path / "a.json") == []
