import json
from itertools import pairwise

from sciembed_train import cli
from sciembed_train.commands import quickstart
from sciembed_train.config.program import program
from sciembed_train.config.recipes import shipped_recipes


def scores_of(value):
    return {k: {"map": value, "ndcg": value} for k in ("random", "bm25", "before", "trained")}


def test_the_table_and_what_to_type_next_are_printed(tmp_path, monkeypatch, capsys):
    asked = {}

    def pretend(folder, seed, **more):
        asked.update(folder=folder, seed=seed)
        return {"scores": scores_of(0.125)}

    monkeypatch.setattr(quickstart, "quickstart", pretend)
    assert cli.main(["quickstart", "--to", str(tmp_path / "q"), "--seed", "5"]) == 0
    said = capsys.readouterr().out
    assert asked == {"folder": tmp_path / "q", "seed": 5}
    assert said.count("0.1250") == 8
    assert "BM25" in said
    assert f"{program()} fit -c own_citations" in said
    assert cli.main(["quickstart", "--to", str(tmp_path / "q"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"scores": scores_of(0.125)}


def test_the_command_it_names_next_has_a_recipe():
    words = quickstart.NEXT.split()
    named = {value for word, value in pairwise(words) if word == "-c"}
    assert named
    assert named <= set(shipped_recipes())


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert cli.main(["quickstart", "--to", str(tmp_path)]) == 2
    assert "no earlier quickstart" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert cli.main(["quickstart", "--to", str(tmp_path / "thesis.tex")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert cli.main(["quickstart", "--to", str(tmp_path / "q"), "--seed", "-1"]) == 2
