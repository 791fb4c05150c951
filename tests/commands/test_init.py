import json

import pytest
import yaml

from sciembed_train.cli import main

PAPERS = [
    {"id": i, "title": f"Title <i>{i}</i>", "abstract": "One. " * 40, "year": 2000 + i}
    for i in range(5)
]


@pytest.fixture
def given(tmp_path, monkeypatch):
    folder = tmp_path / "my data"
    folder.mkdir()
    (folder / "papers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PAPERS))
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_folder_of_papers_and_citations_becomes_a_recipe(given, tmp_path, capsys):
    (given / "cites.csv").write_text("to,from\n1,2\n")
    assert main(["init", str(given)]) == 0
    out = capsys.readouterr().out
    assert "cites.csv: citations: from cites to" in out
    assert "  0 Title 0 (2000): One. One." in out
    assert out.count("Title ") == 3
    assert "Wrote my data.yaml. Next:" in out
    recipe = yaml.safe_load((tmp_path / "my data.yaml").read_text())
    assert recipe["data"]["papers"] == str(given / "papers.jsonl")
    assert recipe["data"]["citations"] == str(given / "cites.csv")
    assert recipe["data"]["cocitation_mining"]["cocitations_from"] == "references"


def test_papers_alone_become_a_recipe_without_citations(given, tmp_path, capsys):
    assert main(["init", str(given / "papers.jsonl"), "--to", "r.yaml"]) == 0
    assert "There are no citations: texts of one paper are paired" in capsys.readouterr().out
    recipe = yaml.safe_load((tmp_path / "r.yaml").read_text())
    assert recipe["data"]["cocitation_mining"]["cocitations_from"] == "given"
    assert "citations" not in recipe["data"]


def test_names_of_columns_go_into_the_recipe(given, tmp_path):
    (given / "papers.jsonl").unlink()
    (given / "p.csv").write_text("number,headline\n1,One\n")
    words = ["--map", "paper_id=number", "--map", "title=headline", "--to", "r.yaml"]
    assert main(["init", str(given), *words]) == 0
    recipe = yaml.safe_load((tmp_path / "r.yaml").read_text())
    assert recipe["data"]["columns"] == {"paper_id": "number", "title": "headline"}


def test_parts_of_a_dump_are_one_input(given, tmp_path):
    (given / "more.jsonl").write_text('{"id": 9, "title": "Nine", "abstract": "", "year": 1}\n')
    assert main(["init", str(given)]) == 0
    recipe = yaml.safe_load((tmp_path / "my data.yaml").read_text())
    assert recipe["data"]["papers"] == str(given)


def test_what_is_not_clear_is_refused_and_nothing_written(given, tmp_path, capsys):
    (given / "more.jsonl").write_text('{"id": 9, "title": "Nine"}\n')
    assert main(["init", str(given)]) == 2
    assert "2 files hold papers" in capsys.readouterr().err
    for file in given.iterdir():
        file.unlink()
    (given / "x.txt").write_text("a")
    assert main(["init", str(given)]) == 2
    assert "No file of papers was recognised.\n" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.yaml"))


def test_a_recipe_is_not_written_over(given, tmp_path, capsys):
    (tmp_path / "r.yaml").write_text("mine")
    assert main(["init", str(given), "--to", "r.yaml"]) == 2
    assert "r.yaml exists already" in capsys.readouterr().err
    assert (tmp_path / "r.yaml").read_text() == "mine"


def test_the_recipe_is_ready_for_a_corpus(given, tmp_path, tiny_bert):
    pairs = "".join(f"{i},{i - 1}\n" for i in range(1, 5))
    (given / "cites.csv").write_text(f"citing,cited\n{pairs}")
    assert main(["init", str(given), "--to", "r.yaml"]) == 0
    words = ["--model.encoder.backbone", str(tiny_bert), "--to", "corpus"]
    assert main(["prepare", "-c", "r.yaml", *words]) == 0
    info = json.loads((tmp_path / "corpus" / "corpus.json").read_text())
    assert (info["counts"]["papers"], info["counts"]["citations"]) == (5, 4)
