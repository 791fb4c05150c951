"""The documentation site builds without a warning, and what its pages say can be run."""

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import sciembed_train as st

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md"))


def commands(page: Path) -> list[list[str]]:
    """The ``./train`` lines of a page's shell blocks, continued lines joined."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.partition("#")[0].split()
            if words[:1] == ["./train"]:
                found.append(words[1:])
    return found


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    reference = tmp_path / "site" / "reference"
    assert (reference / "commands" / "index.html").is_file()
    api = (reference / "api" / "index.html").read_text()
    for name in st.__all__:
        assert name == "__version__" or re.search(rf'id="sciembed_train\.[\w.]*\b{name}"', api), (
            name
        )


@pytest.mark.slow
def test_the_commands_of_the_tutorial_run_and_training_helps(tmp_path):
    printed = []
    for words in commands(ROOT / "docs" / "tutorial.md"):
        done = subprocess.run(
            [sys.executable, "-m", "sciembed_train.cli", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (words, done.stderr[-2000:])
        printed.append(done.stdout)
    before, after = [
        float(line.split()[1])
        for text in printed
        for line in text.splitlines()
        if line.startswith("map ")
    ]
    assert after > 2 * before


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_a_page_names_commands_and_recipes_that_exist(page):
    from sciembed_train.cli import COMMANDS
    from sciembed_train.config.recipes import find_recipe

    for words in commands(page):
        if not words[0].startswith("-"):
            assert words[0] in COMMANDS, words
        for flag, value in pairwise(words):
            if flag == "-c" and value.islower():
                assert find_recipe(value).is_file(), words


def test_the_files_that_the_pages_of_methods_and_architecture_name_exist():
    package = ROOT / "sciembed_train"
    for name in ("methods.md", "architecture.md", "multi_gpu.md"):
        for path in re.findall(
            r"`((?:[\w.]+/)+[\w.]+\.(?:py|sql|md|yaml|sbatch))", page_text(name)
        ):
            assert (ROOT / path).exists() or (package / path).exists(), f"{name}: {path}"


def page_text(name: str) -> str:
    return (ROOT / "docs" / name).read_text()
