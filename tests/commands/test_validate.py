import json

import pytest

from sciembed_train.commands import validate

WORDS = ["-c", "specter", "--ckpt_path", "best.ckpt"]


@pytest.fixture
def scores(monkeypatch):
    """What the library gives; another process than the first gets None."""
    given = {"val/loss": 0.25, "val/recall@10": 0.5}
    monkeypatch.setattr("sciembed_train.training.fit.validate", lambda recipe: given or None)
    return given


def test_scores_are_printed_in_a_column_or_as_json(scores, capsys):
    assert validate.main(WORDS) == 0
    assert capsys.readouterr().out == "val/loss       0.2500\nval/recall@10  0.5000\n"
    assert validate.main([*WORDS, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == scores


def test_one_process_of_several_prints(scores, capsys):
    scores.clear()
    assert validate.main(WORDS) == 0
    assert capsys.readouterr().out == ""
