"""Entries of lists, files of papers, and every layout of a benchmark's folder."""

import json

import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.exclusion_files import Entry, open_place
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.errors import UserError
from sciembed_train.text.normalise import text_number


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def paper(paper_id, title, *other_ids):
    return Entry(paper_id, (paper_id, *other_ids), text_number(title))


def test_a_list_has_an_id_or_a_title_a_line(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf17\r\n\r\n  A title of one \n")
    place = open_place(tmp_path / "list.txt")
    assert place.is_list
    assert [entry.name for entry in place.read()] == ["17", "A title of one"]
    assert [entry.ids for entry in place.read()] == [("17",), ("A title of one",)]
    assert [len(file["sha256"]) for file in place.checksums()] == [64]
    (tmp_path / "list.txt").write_bytes(b"fine\nb\xffd\n")
    with pytest.raises(UserError, match=r"list\.txt:2: this is not UTF-8"):
        list(place.read())


def test_a_file_of_papers_has_ids_and_titles(tmp_path):
    write(tmp_path / "p.jsonl", {"paper_id": 7, "title": "Of seven", "doi": "10.1000/x"})
    place = open_place(tmp_path / "p.jsonl")
    assert not place.is_list
    assert list(place.read()) == [paper("7", "Of seven", "doi:10.1000/x")]
    (tmp_path / "p.jsonl").write_text('{"paper_id": "7", "title": 3}\n')
    with pytest.raises(UserError, match=r"p\.jsonl:1: .* Correct the row"):
        list(open_place(tmp_path / "p.jsonl").read())


def test_a_folder_of_searches_has_its_papers_and_those_that_ask(tmp_path):
    write(tmp_path / "papers.jsonl", {"paper_id": "a", "title": "Of a"})
    queries = {"query_id": "1", "paper_id": "a"}, {"query_id": "2", "text": "Of many things"}
    write(tmp_path / "queries.jsonl", *queries, {"query_id": "3", "paper_id": "elsewhere"})
    (tmp_path / "qrels.tsv").write_text("1\t0\ta\t1\n")
    place = open_place(tmp_path)
    assert list(place.read()) == [
        paper("a", "Of a"),
        Entry("Of many things", (), text_number("Of many things")),
        Entry("elsewhere", ("elsewhere",)),
    ]
    assert {file["name"] for file in place.checksums()} == {"papers.jsonl", "queries.jsonl"}


@pytest.mark.parametrize("name", ["csfcube", "relish", "scidcite"])
def test_judged_pools_have_their_papers_and_every_candidate(tmp_path, name):
    write(tmp_path / f"abstracts-{name}.jsonl", {"paper_id": "1", "title": "One", "abstract": []})
    facet = "-method" if name == "csfcube" else ""
    pools = {"1": {"cands": ["2", 3], "relevance_adju": [1, 0]}}
    (tmp_path / f"test-pid2anns-{name}{facet}.json").write_text(json.dumps(pools))
    (tmp_path / "other.json").write_text("{}")
    read = list(open_place(tmp_path).read())
    assert read == [paper("1", "One"), Entry("2", ("2",)), Entry("3", ("3",))]


@pytest.mark.parametrize("name", ["paper_metadata_mag_mesh.json", "mdcr_test_data.jsonl"])
def test_scidocs_and_mdcr_have_their_papers(tmp_path, name):
    row = {"paper_id": "1", "title": "One", "abstract": "Of one."}
    (tmp_path / name).write_text(json.dumps({"1": row} if name.endswith(".json") else row))
    (tmp_path / "mdcr_test.json").write_text("{}")
    assert list(open_place(tmp_path).read()) == [paper("1", "One")]


def test_the_texts_of_scirepevals_tasks_are_read_wherever_they_stand(tmp_path):
    search = {
        "query": {"doc_id": "q", "title": "Asked"},
        "candidates": [{"doc_id": "1", "title": "First"}, {"doc_id": "2", "title": None}],
    }
    write(tmp_path / "near" / "evaluation.jsonl", search, {**search, "query": "words alone"})
    write(tmp_path / "class.jsonl", {"doc_id": "3", "title": "Third"})
    tasks = [{"name": n, "data": {"meta": m}} for n, m in (("n", "near"), ("c", "class.jsonl"))]
    write(tmp_path / "scirepeval_tasks.jsonl", *tasks)
    place = open_place(tmp_path)
    assert list(place.read()) == [
        paper("q", "Asked"),
        paper("1", "First"),
        Entry("2", ("2",)),
        Entry("words alone", (), text_number("words alone")),
        paper("3", "Third"),
    ]
    assert len(place.checksums()) == 3
    write(tmp_path / "scirepeval_tasks.jsonl", {"name": "n"})
    with pytest.raises(UserError, match=r"scirepeval_tasks\.jsonl:1: expected a task"):
        open_place(tmp_path)


def test_a_corpus_has_its_papers(tmp_path):
    write(tmp_path / "p.jsonl", {"paper_id": "a", "title": "Of a"})
    settings = PrepareSettings(tmp_path / "p.jsonl", to=tmp_path / "c", dev_share=0, test_share=0)
    prepare(settings)
    place = open_place(tmp_path / "c")
    assert list(place.read()) == [paper("a", "Of a")]
    assert place.name == "c"


def test_what_is_no_list_and_no_benchmark_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none: there is no such file or folder \(--exclude"):
        open_place(tmp_path / "none")
    (tmp_path / "some").mkdir()
    with pytest.raises(UserError, match=r"some: holds no papers to exclude; expected `papers`"):
        open_place(tmp_path / "some")
