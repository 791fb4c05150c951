"""Every example runs as it stands; what the notebook's cells show is run as a script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(script: Path | str, *arguments: str, cwd: Path) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(EXAMPLES.parent), str(EXAMPLES)]),
    }
    done = subprocess.run(
        [sys.executable, script, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_search_finds_papers(tmp_path):
    lines = run(EXAMPLES / "train_and_search.py", str(tmp_path / "made"), cwd=tmp_path).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("nearest to: "))
    assert len(lines[start + 1 :]) == 5
    distances = [float(line.split()[0]) for line in lines[start + 1 :]]
    assert distances == sorted(distances)


@pytest.mark.slow
def test_a_sampling_of_ones_own_is_trained(tmp_path):
    printed = run(EXAMPLES / "own_sampling.py", str(tmp_path / "made"), cwd=tmp_path)
    assert "own_sampling" in printed


@pytest.mark.slow
def test_training_makes_the_encoder_better(tmp_path):
    printed = run(EXAMPLES / "score_encoders.py", str(tmp_path / "made"), cwd=tmp_path)
    scores = {name: float(score) for name, score in map(str.split, printed.splitlines()[-3:])}
    assert scores["after"] > scores["before"]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    cells = json.loads((EXAMPLES / "first_encoder.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell.get("outputs") for cell in cells)
    script = tmp_path / "notebook.py"
    script.write_text("\n\n".join(code))
    run(script, cwd=tmp_path)


def test_every_example_is_listed():
    page = (EXAMPLES / "README.md").read_text()
    helpers = {"README.md", "synthetic_data.py"}
    for path in EXAMPLES.iterdir():
        if path.suffix in (".py", ".ipynb", ".md") and path.name not in helpers:
            assert f"]({path.name})" in page, path.name
