"""What `train doctor --measure` measures and says."""

import pytest
import torch

from sciembed_train import cli
from sciembed_train.encoder.profiling import attention_speed
from sciembed_train.encoder.profiling.attention_speed import Measured, lengths, measure, table


def test_every_way_that_runs_here_is_measured():
    found = measure(torch.device("cpu"), 2, 1)
    assert [(row.dtype, row.dropout) for row in found] == [
        (dtype, dropout) for dtype in (torch.float32, torch.bfloat16) for dropout in (0.0, 0.1)
    ]
    for row in found:
        half = row.dtype == torch.bfloat16
        assert set(row.seconds) == {"by_text", "padded"} | (set() if half else {"nested"})
        assert min(row.seconds.values()) > 0
        assert row.taken == "by_text"


def test_lengths_are_those_of_titles_with_abstracts():
    drawn = lengths(2000)
    assert drawn == sorted(drawn, reverse=True)
    assert drawn[0] <= 512
    assert sum(drawn) / 2000 == pytest.approx(200, abs=10)


def test_a_quicker_way_than_the_table_takes_is_named():
    slow = Measured(torch.bfloat16, 0.1, {"nested": 0.003, "padded": 0.001}, "nested")
    right = Measured(torch.float32, 0.0, {"nested": 0.001, "padded": 0.002}, "nested")
    near = Measured(torch.float32, 0.1, {"nested": 0.0011, "padded": 0.001}, "nested")
    said = table([slow, right, near], "a machine")
    assert "In bf16 with dropout 0.1 padded is 3.00 times as fast here as nested" in said
    assert said.count("times as fast") == 1
    assert "auto takes the fastest here" in table([right, near], "a machine")


def test_doctor_measures_when_asked(monkeypatch, capsys):
    monkeypatch.setattr(attention_speed, "report", lambda: "THE TABLE")
    monkeypatch.setattr("sciembed_train.commands.doctor.examine", lambda folder: [])
    assert cli.main(["doctor"]) == 0
    assert "THE TABLE" not in capsys.readouterr().out
    assert cli.main(["doctor", "--measure"]) == 0
    assert "THE TABLE" in capsys.readouterr().out
    assert cli.main(["doctor", "--measure", "--json"]) == 2
