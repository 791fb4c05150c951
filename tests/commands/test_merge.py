import json
from pathlib import Path

import pytest

import sciembed_train as st
from sciembed_train.commands import merge
from sciembed_train.errors import UserError
from sciembed_train.export.merge import Merge


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def make(**settings):
        calls.append(settings)
        return Merge(Path("m"), {"start": 0.25, "tuned": 0.75}, {"AutoModel": 1e-7})

    monkeypatch.setattr(st, "merge", make)
    return calls


def test_models_are_arguments_and_their_weights_words(asked, capsys):
    assert merge.main(["start", "tuned", "--weights", "0.25", "0.75", "--to", "m"]) == 0
    assert asked[0]["models"] == ["start", "tuned"]
    assert asked[0]["weights"] == [0.25, 0.75]
    assert "0.25 x start + 0.75 x tuned -> m" in capsys.readouterr().out
    assert merge.main(["start", "tuned", "--to", "m", "--json"]) == 0
    assert asked[1]["weights"] is None
    assert json.loads(capsys.readouterr().out)["weights"] == {"start": 0.25, "tuned": 0.75}


def test_weights_that_do_not_fit_are_refused(asked):
    with pytest.raises(UserError, match="not to 1; give 0"):
        merge.main(["start", "tuned", "--weights", "0.3", "0.3", "--to", "m"])
    assert asked == []
