"""What the helps of all commands share."""

import subprocess
import sys

import pytest

from sciembed_train.cli import COMMANDS

BY_ITSELF = {"test"}  # its options are pytest's
CODE = """
import sys
from sciembed_train.cli import main
try:
    main(sys.argv[1:])
except SystemExit as left:
    assert not left.code, left.code
heavy = {"torch", "transformers", "pytorch_lightning", "duckdb"} & set(sys.modules)
assert not heavy, heavy
"""


def shown(*words):
    done = subprocess.run(
        [sys.executable, "-c", CODE, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - BY_ITSELF))
def test_a_help_has_two_examples_and_imports_nothing_heavy(command):
    text = shown(command, "--help")
    assert text.startswith("usage: ")
    examples = text[text.index("\nexamples:") + 1 :].splitlines()[1:]
    assert len(examples) == 2
    assert all(f" {command}" in example for example in examples)
    assert len(shown(command, "--help_all")) >= len(text)


def test_a_wrong_option_names_the_one_that_was_meant():
    done = subprocess.run(
        [sys.executable, "-m", "sciembed_train.cli", "embed", "--modle", "x"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Did you mean --model?" in done.stderr
