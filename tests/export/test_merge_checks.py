"""Encoders that cannot be merged, by their first difference."""

import json
import shutil

import pytest

from sciembed_train import cli
from tests.helpers.tiny_models import write_tiny_roberta


def refused(capsys, *words):
    assert cli.main(["merge", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("./train merge: ")
    return error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 1}, "num_hidden_layers is 2 and 1"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-12 and 1e-05"),
    ],
)
def test_another_architecture_is_refused_by_its_first_difference(
    change, message, two, tmp_path, capsys
):
    other = shutil.copytree(two[1], tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, **change}))
    error = refused(capsys, two[0], other, "--to", tmp_path / "m")
    assert f"cannot be merged: {message}." in error
    assert not (tmp_path / "m").exists()


def test_another_family_pooling_tokenizer_or_form_is_refused(two, tmp_path, capsys):
    roberta = write_tiny_roberta(tmp_path / "roberta")
    to = ("--to", tmp_path / "m")
    error = refused(capsys, two[0], roberta, *to)
    assert "model_type is bert and roberta" in error

    other = shutil.copytree(two[1], tmp_path / "other")
    record = json.loads((other / "sciembed.json").read_text())

    def rewrite(**values):
        (other / "sciembed.json").write_text(json.dumps({**record, **values}))

    rewrite(pooling="cls")
    assert "pooling is mean and cls" in refused(capsys, two[0], other, *to)
    rewrite(input_format={**record["input_format"], "separator": "space"})
    assert "input_format.separator is sep and space" in refused(capsys, two[0], other, *to)
    rewrite()
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["word0"], vocabulary["word1"] = vocabulary["word1"], vocabulary["word0"]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    error = refused(capsys, two[0], other, *to)
    assert "the tokenizer's token 5 is word0 and word1" in error
