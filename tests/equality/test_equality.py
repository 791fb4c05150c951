"""The numbers of this code are those that were recorded of the code before a refactoring."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def compared(*words: str) -> None:
    """Compare with the recording; on another machine a difference says little."""
    script, recorded = HERE / "record.py", HERE / "numbers.json"
    done = subprocess.run(
        [sys.executable, str(script), "--against", str(recorded), *words],
        capture_output=True,
        text=True,
    )
    if done.returncode == 1 and "ANOTHER MACHINE" in done.stdout:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_specter_is_prepared_and_trained_bit_by_bit_as_before():
    compared("--processes", "1", "--only", "prepare_triplets", "specter")


@pytest.mark.slow
def test_one_method_of_each_kind_is_bit_by_bit_as_before():
    compared(
        *("--only", "prepare_cocited", "prepare_documents", "prepare_tasks", "prepare_fulltexts"),
        *("specter", "specter_cut", "specter_resumed", "specter2_grouped", "declutr_cut"),
        *("cocite", "cocite_all_infonce_cut", "cosentbert", "ot", "ts", "tsot_all_cut"),
        *("adapters", "codes_cut", "fusion", "own_adapter"),
    )
