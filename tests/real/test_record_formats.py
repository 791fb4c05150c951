"""Real records as papers: every generation of S2ORC, unarXive, SciRepEval, SPECTER."""

import gzip

import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.paper_rows import PaperRows
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.inference.paper_file import PaperFile


def read(path):
    rows = PaperRows(Table(path, "papers"))
    papers = [paper for _, paper in rows]
    assert not [paper for paper in papers if isinstance(paper, BadRow)]
    return papers, {known.name for known in rows.formats.values()}


def test_s2orcs_metadata_has_its_citations(shared_data):
    papers, names = read(shared_data / "s2orc" / "metadata" / "sample.jsonl")
    assert names == {"S2ORC records"}
    assert len(papers) == 1000
    assert sum(bool(paper.abstract) for paper in papers) == 488
    assert sum(len(paper.references) for paper in papers) == 3107
    assert sum(len(paper.cited_by) for paper in papers) == 2974


@pytest.mark.parametrize(
    ("generation", "titles", "abstracts", "references"),
    [("20190928", 3, 3, True), ("20200705", 0, 3, True), ("20210101", 2, 1, False)],
)
def test_every_generation_of_s2orcs_full_texts_is_a_paper(
    shared_data, generation, titles, abstracts, references
):
    papers, names = read(shared_data / "s2orc" / "fulltext" / generation)
    assert names == {"S2ORC records"}
    assert sum(bool(paper.title) for paper in papers) == titles
    assert sum(bool(paper.abstract) for paper in papers) == abstracts
    assert all(paper.references for paper in papers) == references


def test_doc2jsons_parses_are_papers(shared_data):
    papers, _ = read(shared_data / "s2orc" / "fulltext" / "doc2json")
    assert len(papers) == 2
    assert all(paper.title and paper.abstract for paper in papers)


def test_unarxives_records_are_papers(shared_data):
    source = shared_data / "unarxive" / "arXiv_src_2212_086.jsonl.gz"
    papers, names = read(source)
    assert names == {"unarXive records"}
    assert len(papers) == 34
    assert all(paper.title and paper.abstract and paper.year == 2022 for paper in papers)
    with gzip.open(source, "rt", encoding="utf-8") as file:
        assert file.read().count('"open_alex_id": "https') == 343
    assert sum(len(paper.references) for paper in papers) >= 343


@pytest.mark.parametrize(("name", "papers"), [("fos_small", 205), ("mesh_small", 206)])
def test_scirepevals_papers_are_read(shared_data, name, papers):
    found, names = read(shared_data / "scirepeval" / f"{name}.json")
    assert names == {"SciRepEval papers"}
    assert len(found) == papers


@pytest.mark.parametrize(
    ("name", "papers"), [("sample-metadata.json", 55), ("training/metadata.json", 17)]
)
def test_specters_metadata_are_plain_papers(shared_data, name, papers):
    found = PaperFile(shared_data / "specter" / name)
    assert len(found) == papers
    assert {known.name for known in found.paper_rows.formats.values()} == {
        "rows with a column for each field"
    }
