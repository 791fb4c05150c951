import json

import pytest

from sciembed_train.commands import import_model as command

RESULT = {"differences": {"AutoModel": 1e-7}, "pooling": "cls"}


@pytest.fixture
def asked(monkeypatch):
    requests = []
    monkeypatch.setattr(command, "import_model", lambda request: requests.append(request) or RESULT)
    monkeypatch.setattr(command, "describe_import", lambda result: f"pooling {result['pooling']}")
    return requests


def test_the_source_is_an_argument_and_what_is_known_is_printed(asked, capsys):
    assert command.main(["allenai/specter", "--to", "specter", "--pooling", "cls"]) == 0
    assert (str(asked[0].source), str(asked[0].to)) == ("allenai/specter", "specter")
    assert asked[0].pooling == "cls"
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["allenai/specter -> specter", "pooling cls"]
    assert "AutoModel differs by 1.0e-07" in said[2]


def test_json_and_quiet(asked, capsys):
    assert command.main(["a", "--to", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == RESULT
    assert command.main(["a", "--to", "b", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
