import json

import pytest

from sciembed_train.cli import main
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.errors import UserError
from tests.helpers.paper_files import paper_settings, write_paper_files


def run_prepare(*arguments):
    return main(["prepare", *map(str, arguments)])


def test_a_corpus_without_any_abstract_is_noted(tmp_path, capsys):
    papers, _ = write_paper_files(tmp_path)
    lines = [json.dumps({"paper_id": p["paper_id"], "title": p["title"]}) for p in papers]
    (tmp_path / "papers.jsonl").write_text("\n".join(lines))
    assert run_prepare("--papers", tmp_path / "papers.jsonl", "--to", tmp_path / "titles") == 0
    assert "not one paper has an abstract" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", r"papers\.jsonl:121: this is not JSON"),
        ('{"paper_id": "x", "title": "t", "abstract": 17}', "`abstract` is the number 17"),
        ('{"paper_id": "x"}', "there is no `title`; the fields are paper_id"),
        (
            '{"paper_id": "p1", "title": "again"}',
            r"papers\.jsonl:121: `paper_id` 'p1' was given before, at .*papers\.jsonl:2;",
        ),
    ],
)
def test_a_malformed_row_stops_the_command_unless_allowed_for(tmp_path, capsys, line, message):
    write_paper_files(tmp_path)
    with (tmp_path / "papers.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=message) as refused:
        prepare(paper_settings(tmp_path))
    assert "1 of 121 rows is like this." in str(refused.value)
    assert "--max-bad-rows 1" in str(refused.value)
    assert not (tmp_path / "corpus").exists()
    corpus = prepare(paper_settings(tmp_path, max_bad_rows=1))
    assert corpus.n_papers == 120
    malformed = json.loads((corpus.folder / "report.json").read_text())["papers"]["malformed"]
    assert [d["examples"] for d in malformed.values()] == [[f"{tmp_path / 'papers.jsonl'}:121"]]


def test_papers_without_any_text_or_without_rows_are_refused(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"paper_id": 1, "title": ""}\n')
    with pytest.raises(UserError, match="none of its 1 papers has a title or an abstract"):
        prepare(PrepareSettings(path, to=tmp_path / "c"))
    path.write_text("")
    with pytest.raises(UserError, match=r"p\.jsonl: empty\. There is nothing to read"):
        prepare(PrepareSettings(path, to=tmp_path / "c"))


def test_keys_are_in_the_order_of_the_ids(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = [{"paper_id": name, "title": f"title {name}"} for name in ("b", 10, "a", 9)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = prepare(PrepareSettings(path, to=tmp_path / "c"))
    assert corpus.paper_ids() == ["10", "9", "a", "b"]
    assert [paper["title"] for paper in corpus.papers()] == [
        *("title 10", "title 9", "title a", "title b")
    ]
