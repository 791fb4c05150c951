"""No model folder makes the program import its Python, or use a network."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import transformers

ROOT = Path(__file__).resolve().parents[2]


def run(mode, tmp_path, tiny_bert):
    shutil.copytree(tiny_bert, tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.foreign_code", str(tmp_path), mode],
        cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_transformers_itself_runs_the_foreign_code_of_the_crafted_folders(tmp_path, tiny_bert):
    """Otherwise the other tests would show nothing."""
    if int(transformers.__version__.split(".")[0]) >= 5:
        pytest.skip("transformers 5 does not run the code of these folders by itself")
    found = run("unguarded", tmp_path, tiny_bert)["found"]
    assert any(entry.startswith("exec") for entry in found)
    assert any(entry.startswith("open") for entry in found)


def test_no_model_type_with_hostile_values_runs_code_or_asks_a_network(tmp_path, tiny_bert):
    report = run("walk", tmp_path, tiny_bert)
    assert report["found"] == []
    result = report["result"]
    assert result["configurations"] > 1500
    assert result["refused"] > 0.9 * result["configurations"]
    assert result["tokenizers"] == 21


@pytest.mark.slow
def test_no_command_runs_the_code_of_a_crafted_folder(tmp_path, tiny_bert):
    report = run("commands", tmp_path, tiny_bert)
    assert report["found"] == []
    for name, codes in report["result"].items():
        for code, said in codes[:5]:  # the last one has a key that is left out, and a tiny BERT
            assert code == 2, (name, said)
            assert "Traceback" not in said, (name, said)
