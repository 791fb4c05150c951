import json
from pathlib import Path

import pytest

import sciembed_train as st
from sciembed_train.commands import embed
from sciembed_train.errors import UserError
from sciembed_train.inference.embed_file import Embeddings

WORDS = ["--model", "m", "--input", "papers.csv", "--to", "vectors.npy"]


@pytest.fixture
def asked(monkeypatch):
    calls = []

    def make(**settings):
        calls.append(settings)
        return Embeddings(Path("vectors.npy"), papers=2, dim=8)

    monkeypatch.setattr(st, "embed", make)
    return calls


def test_options_are_settings_and_the_result_is_printed(asked, capsys):
    assert embed.main([*WORDS, "--batch-tokens", "1000", "--format-token", "proximity"]) == 0
    (settings,) = asked
    assert {key: str(settings[key]) for key in ("model", "input", "to")} == {
        "model": "m",
        "input": "papers.csv",
        "to": "vectors.npy",
    }
    assert (settings["batch_tokens"], settings["format_token"]) == (1000, "proximity")
    assert settings["progress"]
    assert "2 embeddings of width 8 in vectors.npy" in capsys.readouterr().out


def test_json_and_quiet(asked, capsys):
    assert embed.main([*WORDS, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["papers"] == 2
    assert embed.main([*WORDS, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert not any(settings["progress"] for settings in asked)


def test_what_is_missing_is_named(asked):
    with pytest.raises(UserError, match="model"):
        embed.main(["--input", "papers.csv", "--to", "vectors.npy"])
