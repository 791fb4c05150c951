"""The name that the program was called by."""

import sys

import pytest

from sciembed_train.config.program import as_called, program


@pytest.mark.parametrize(
    ("called", "expected"),
    [("/bin/sciembed-train", "sciembed-train"), ("./train", "./train"), ("x/cli.py", "./train")],
)
def test_the_program_is_named_as_it_was_called(monkeypatch, called, expected):
    monkeypatch.setattr(sys, "argv", [called])
    assert program() == expected


def test_commands_in_messages_are_named_as_the_program_was_called(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/sciembed-train"])
    assert as_called("see `train doctor`, not train") == "see `sciembed-train doctor`, not train"
