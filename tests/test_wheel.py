"""The wheel, installed into an empty environment: recipes travel with it, and training works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


def run(*words: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**environment, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The programs of an environment in which nothing but the wheel was asked for."""
    folder = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    for name in filter(None, tracked):  # a clean copy, so that no leftover of a build travels
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        folder,
        "./source",
        cwd=folder,
    )
    (wheel,) = folder.glob("*.whl")
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    pins = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "-q", "-c", pins, f"{wheel}[prepare]", cwd=folder)
    return python.parent


def test_an_installed_wheel_lists_its_recipes_and_fits_two_steps(installed, tmp_path):
    program = installed / "sciembed-train"
    recipes = run(program, "recipes", cwd=tmp_path)
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        assert path.stem in recipes
    make = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); "
        "import synthetic_data; print(synthetic_data.make(Path('made'), papers=120))"
    )
    run(installed / "python", "-c", make, ROOT / "examples", cwd=tmp_path)
    run(
        program,
        "fit",
        *("-c", "specter", "-c", "machine/cpu"),
        *("--data.papers", "made/data/papers.jsonl"),
        *("--data.citations", "made/data/citations.tsv"),
        *("--model.encoder.backbone", "made/backbone"),
        *("--model.encoder.max_length", "64"),
        *("--data.batch_size", "8", "--trainer.max_steps", "2"),
        cwd=tmp_path,
    )
    assert (tmp_path / "checkpoints" / "specter" / "export" / "model.safetensors").is_file()
