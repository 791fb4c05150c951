import json
from pathlib import Path

import pytest

import sciembed_train as st
from sciembed_train.commands import export
from sciembed_train.errors import UserError
from sciembed_train.export.export_checkpoint import Export


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def make(**settings):
        calls.append(settings)
        return Export(Path("m"), Path("run/best.ckpt"), {"AutoModel": 1e-7})

    monkeypatch.setattr(st, "export_encoder", make)
    return calls


def test_the_source_is_an_argument_and_the_differences_are_printed(asked, capsys):
    assert export.main(["run", "--to", "m", "--overwrite"]) == 0
    assert (asked[0]["source"], asked[0]["to"], asked[0]["overwrite"]) == ("run", "m", True)
    said = capsys.readouterr().out
    assert said.startswith("run/best.ckpt -> m\n")
    assert "AutoModel differs by 1.0e-07" in said
    assert export.main(["run", "--to", "m", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["differences"] == {"AutoModel": 1e-7}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layout", "onnx"], "onnx"),
        (["--adapter", "proximity"], "--adapter goes with --layout adapterhub"),
    ],
)
def test_layouts_that_are_not_built_or_do_not_fit_are_refused(asked, words, message):
    with pytest.raises(UserError, match=message):
        export.main(["run", "--to", "m", *words])
    assert asked == []
