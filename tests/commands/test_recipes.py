import json

from sciembed_train import cli
from sciembed_train.config.recipes import find_recipe


def test_shipped_recipes_are_listed_with_a_line_each(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(
        line.split() == ["specter", "SPECTER,", "Cohan", "et", "al.", "(2020)"] for line in lines
    )
    names = [line.split()[0] for line in lines]
    assert "machine/cpu" in names
    assert all(find_recipe(name).is_file() for name in names)


def test_they_are_listed_as_json(capsys):
    assert cli.main(["recipes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"name", "file", "description"} == set(rows[0])
    assert any(row["name"] == "specter2_base" for row in rows)
