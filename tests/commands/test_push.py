import json
from pathlib import Path

import pytest

import sciembed_train as st
from sciembed_train.commands import push
from sciembed_train.errors import UserError
from sciembed_train.export.push import Pushed


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def upload(**settings):
        calls.append(settings)
        return Pushed(Path("m"), "me/m", "https://hub/me/m/commit/0f", "0f", 12)

    monkeypatch.setattr(st, "push", upload)
    return calls


def test_folder_and_repository_are_arguments(asked, capsys):
    assert push.main(["m", "me/m", "--private", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert asked[0] == {
        **{"folder": "m", "repo": "me/m", "private": True, "revision": None, "progress": False}
    }
    assert push.main(["m", "me/m", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["url"] == "https://hub/me/m/commit/0f"


def test_a_wrong_name_is_refused(asked):
    with pytest.raises(UserError, match="repo is 'a b'"):
        push.main(["m", "a b"])
    assert asked == []
