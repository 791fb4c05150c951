"""The fields of study that each record format names; they are counted and never an error."""

import json

import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.readers.record_registry import RECORD_FORMATS
from sciembed_train.corpus.readers.records.fields import names_of
from sciembed_train.corpus.readers.records.plain_papers import PlainPapers


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (None, []),
        ("Physics", ["Physics"]),
        ("Physics; Computer Science |Art", ["Physics", "Computer Science", "Art"]),
        (["Physics", "Physics", " Art "], ["Physics", "Art"]),
        ([{"category": "Medicine", "source": "external"}, {"category": "Biology"}],
         ["Medicine", "Biology"]),
        ({"id": 1, "display_name": "Chemistry"}, ["Chemistry"]),
        (17, []),
        ([1, None, {"level": 0}], []),
        (float("nan"), []),
    ],
)  # fmt: skip
def test_names_are_read_from_texts_lists_and_objects(value, names):
    assert names_of(value) == names


ROWS = {
    "openalex": [
        ({"id": "W1", "primary_topic": {"field": {"display_name": "Medicine"}}},
         ["Medicine"]),
        ({"id": "W1", "concepts": [{"display_name": "Physics", "level": 0},
                                   {"display_name": "Optics", "level": 1}]}, ["Physics"]),
        ({"id": "W1", "concepts": "none"}, []),
    ],
    "semantic_scholar": [
        ({"paperId": "a", "fieldsOfStudy": ["Biology", "Medicine"]}, ["Biology", "Medicine"]),
        ({"paperId": "a", "s2FieldsOfStudy": [{"category": "Law"}]}, ["Law"]),
        ({"corpusid": 1, "title": "t", "s2fieldsofstudy": [{"category": "Law"}]}, ["Law"]),
    ],
    "arxiv": [({"id": "1", "categories": "hep-th math.AG"}, ["hep-th", "math.AG"]),
              ({"id": "1", "categories": None}, [])],
    "crossref": [({"DOI": "10.1/a", "subject": ["Oncology"]}, ["Oncology"])],
    "s2orc": [({"paper_id": "1", "mag_field_of_study": ["Geology"]}, ["Geology"])],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "row", "fields"), [(name, *case) for name, cases in ROWS.items() for case in cases]
)
def test_a_format_names_its_fields(name, row, fields):
    assert list(RECORD_FORMATS[name].paper(row).fields_of_study) == fields


@pytest.mark.parametrize("column", ["fields_of_study", "fieldsOfStudy", "Subjects", "discipline"])
def test_a_column_of_fields_is_known_by_its_common_names(column):
    record = PlainPapers().paper({"id": "1", "title": "t", column: "Physics;Art"})
    assert record.fields_of_study == ["Physics", "Art"]


def test_the_report_and_its_page_count_the_fields(tmp_path):
    fields = [["Physics"], ["Physics", "Art"], None, 17]
    rows = [
        {"paper_id": str(n), "title": f"title {n}", "fields_of_study": named}
        for n, named in enumerate(fields)
    ]
    (tmp_path / "papers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare(PrepareSettings(papers=tmp_path / "papers.jsonl", to=tmp_path / "corpus"))
    report = json.loads((tmp_path / "corpus" / "report.json").read_text())
    assert report["papers"]["fields of study"] == {
        "papers": {"Physics": 2, "Art": 1},
        "other fields": 0,
        "papers without one": 2,
    }
    page = (tmp_path / "corpus" / "report.html").read_text()
    assert "<h2>Fields of study</h2>" in page
    assert "2 papers name none" in page
