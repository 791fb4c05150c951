import json
from dataclasses import replace

from sciembed_train.cli import main
from sciembed_train.corpus.build import prepare
from tests.helpers.paper_files import paper_settings, triplets_by_id, write_paper_files


def run_prepare(*arguments):
    return main(["prepare", *map(str, arguments)])


def test_ready_triplets_are_taken_in_place_of_mined_ones(tmp_path):
    write_paper_files(tmp_path)
    (tmp_path / "t.csv").write_text(
        "query_paper_id,positive_id,negative_id\np1,p3,p5\np1,p3,p5\np1,p3,nobody\np1,0,p3\n"
        "p1,p1,p3\np3,p1,p7\n"
    )
    made = replace(paper_settings(tmp_path, dev_share=0.0, test_share=0.0), citations=None)
    corpus = prepare(replace(made, pairs=tmp_path / "t.csv"))
    assert triplets_by_id(corpus, "train") == [["p1", "p3", "p5"], ["p3", "p1", "p7"]]
    report = json.loads((corpus.folder / "report.json").read_text())
    assert {k: d["count"] for k, d in report["pairs"]["dropped"].items()} == {
        "given before": 1,
        "unknown negative": 1,
        "positive without a text": 1,
        "a paper twice in one triplet": 1,
    }


def test_queries_without_two_hop_papers_are_an_option(tmp_path, capsys):
    (tmp_path / "papers.jsonl").write_text(
        "".join(json.dumps({"paper_id": i, "title": f"word{i}"}) + "\n" for i in range(9))
    )
    (tmp_path / "citations.csv").write_text("0,1\n0,2\n3,1\n")
    arguments = ["--papers", tmp_path / "papers.jsonl", "--citations", tmp_path / "citations.csv"]
    arguments += ["--to", tmp_path / "c", "--dev-share", 0, "--test-share", 0, "--quiet"]
    assert run_prepare(*arguments) == 2
    message = capsys.readouterr().err
    assert "3 of these have a text at both ends" in message
    assert "2 training queries have no hard negative" in message
    assert "--no-require-hard" in message
    assert not (tmp_path / "c").exists()
    assert run_prepare(*arguments, "--no-require-hard", "--json") == 0
    assert json.loads(capsys.readouterr().out)["triplets"] == {"train": 10, "dev": 0, "test": 0}


def test_nothing_to_mine_is_reported_with_counts(tmp_path, capsys):
    write_paper_files(tmp_path)
    base = ["--papers", tmp_path / "papers.jsonl", "--to", tmp_path / "c", "--quiet"]
    (tmp_path / "other.csv").write_text("source,target\nx1,x2\nx3,p1\n")
    assert run_prepare(*base, "--citations", tmp_path / "other.csv") == 2
    message = capsys.readouterr().err
    assert "Of 120 papers 108 have a text. Of 3 citations 0 can be used" in message
    assert f"2: unknown citing and cited paper, the first at {tmp_path / 'other.csv'}:1" in message
    assert "see that both files name papers by the same ids" in message
    (tmp_path / "none.csv").write_text("citing,cited\n")
    assert run_prepare(*base, "--citations", tmp_path / "none.csv") == 2
    assert "Of 0 citations 0 can be used." in capsys.readouterr().err
