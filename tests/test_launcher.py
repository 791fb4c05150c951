"""The launcher on a small project of its own: set up, run, repeat, bring up to date; no network."""

import importlib.machinery
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Builds an editable wheel with the standard library alone, so that pip needs no index.
BACKEND = """
import base64, hashlib, os, time, zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    if os.path.exists("slow"):
        open("building", "w").close()
        time.sleep(60)
    if os.path.exists("broken"):
        raise SystemExit("the reason it is broken")
    name = "sciembed_train-0.1.0"
    files = {
        "sciembed_train.pth": os.getcwd() + "\\n",
        name + ".dist-info/METADATA":
            "Metadata-Version: 2.1\\nName: sciembed_train\\nVersion: 0.1.0\\n"
            "Provides-Extra: dev\\n",
        name + ".dist-info/WHEEL":
            "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = name + ".dist-info/RECORD"
    with zipfile.ZipFile(os.path.join(folder, name + "-py3-none-any.whl"), "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(record, "".join(f"{path},,\\n" for path in [*files, record]))
    return name + "-py3-none-any.whl"
build_wheel = build_editable
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "sciembed_train"
version = "0.1.0"
dependencies = [{more}]
[project.optional-dependencies]
dev = []
"""
CLI = """
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "prefix": sys.prefix, "pid": os.getpid(),
                  "tried": os.environ.get("TRAIN_TRIED")}))
sys.exit(7 if "seven" in sys.argv else 0)
"""


def make_project(folder: Path, more: str = "") -> Path:
    shutil.copy(ROOT / "train", folder / "train")
    (folder / "backend.py").write_text(BACKEND)
    (folder / "pyproject.toml").write_text(PROJECT.replace("{more}", more))
    (folder / "constraints.txt").write_text("# nothing\n")
    (folder / "sciembed_train").mkdir()
    (folder / "sciembed_train" / "__init__.py").write_text("")
    (folder / "sciembed_train" / "cli.py").write_text(CLI)
    return folder


def environment(**more: str) -> dict[str, str]:
    keep = ("PATH", "HOME", "LANG", "TMPDIR")
    # Whatever this machine's pip is told, these runs ask no index.
    offline = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    # The small project needs nothing, which any interpreter has.
    own = {"TRAIN_SETUP": "1"}
    return {**{k: os.environ[k] for k in keep if k in os.environ}, **offline, **own, **more}


def start(folder: Path, *arguments: str, python: str | None = None, cwd=None, **more):
    base = python or getattr(sys, "_base_executable", sys.executable)
    return subprocess.Popen(
        [base, str(folder / "train"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd or folder,
        env=environment(**more),
    )


def launch(folder: Path, *arguments: str, **more) -> tuple[int, str, str]:
    process = start(folder, *arguments, **more)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def load_launcher():
    loader = importlib.machinery.SourceFileLoader("launcher", str(ROOT / "train"))
    spec = importlib.util.spec_from_loader("launcher", loader)
    module = importlib.util.module_from_spec(spec)
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # no `trainc` beside the launcher
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project that two processes, started together, have set up."""
    folder = make_project(tmp_path_factory.mktemp("a folder with spaces"))
    processes = [start(folder, "fit", str(i)) for i in range(2)]
    answers = [p.communicate(timeout=120) for p in processes]
    for process, (_, err) in zip(processes, answers, strict=True):
        assert process.returncode == 0, err
    (folder / "answers.json").write_text(json.dumps([[p.pid for p in processes], answers]))
    return folder


@pytest.mark.slow
def test_of_processes_started_together_one_sets_up_and_all_run(project):
    pids, answers = json.loads((project / "answers.json").read_text())
    said = "".join(err for _, err in answers)
    assert said.count("setting up .venv beside") == 1
    assert said.count("set up in") == 1
    for i, (out, _) in enumerate(answers):
        told = json.loads(out)
        assert told["argv"] == ["fit", str(i)]
        assert Path(told["prefix"]).resolve() == (project / ".venv").resolve()
        assert told["pid"] == pids[i], "exec keeps the process: torchrun and SLURM signal it"


def test_the_second_start_sets_up_nothing_and_passes_the_exit_code(project):
    code, out, err = launch(project, "test", "seven")
    assert (code, err) == (7, "")
    assert json.loads(out)["argv"] == ["test", "seven"]


def test_an_active_environment_that_has_the_package_is_used(project, tmp_path):
    other = make_project(tmp_path)
    code, out, err = launch(other, "fit", VIRTUAL_ENV=str(project / ".venv"))
    assert (code, err) == (0, "")
    assert Path(json.loads(out)["prefix"]).resolve() == (project / ".venv").resolve()
    assert not (other / ".venv").exists()


def test_changed_constraints_bring_the_environment_up_to_date(project):
    launch(project)
    marker = project / ".venv" / "kept"
    marker.write_text("")
    (project / "constraints.txt").write_text("# changed\n")
    code, _, err = launch(project)
    assert code == 0
    assert "has changed: bringing .venv up to date" in err
    assert marker.exists(), "brought up to date, not made anew"
    assert launch(project)[2] == ""


def test_tool_settings_are_no_reason_to_install_again(project):
    launch(project)
    with (project / "pyproject.toml").open("a") as file:
        file.write("[tool.ruff]\nline-length = 99\n")
    assert launch(project)[2] == ""


@pytest.mark.slow
def test_a_moved_checkout_is_set_up_anew(project, tmp_path):
    launch(project)
    moved = tmp_path / "moved"
    shutil.copytree(project, moved, symlinks=True)
    code, out, err = launch(moved)
    assert code == 0, err
    assert "setting up .venv" in err
    assert Path(json.loads(out)["prefix"]).resolve() == (moved / ".venv").resolve()


@pytest.mark.slow
def test_a_set_up_that_was_killed_is_done_again(tmp_path):
    folder = make_project(tmp_path)
    (folder / "slow").write_text("")
    process = start(folder)
    deadline = time.monotonic() + 60
    while not (folder / "building").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    (folder / "slow").unlink()
    code, out, err = launch(folder)
    assert code == 0, err
    assert "again, the last time did not finish" in err
    assert json.loads(out)["prefix"]


@pytest.mark.slow
def test_a_failure_shows_the_installers_last_lines_and_the_next_start_repeats(tmp_path):
    folder = make_project(tmp_path)
    (folder / "broken").write_text("")
    code, out, err = launch(folder)
    assert (code, out) == (1, "")
    assert "the reason it is broken" in err
    assert "set-up.log" in err
    (folder / "broken").unlink()
    code, out, err = launch(folder, "fit")
    assert code == 0, err
    assert "again, the last time did not finish" in err
    assert json.loads(out)["argv"] == ["fit"]


def test_an_environment_of_somebody_else_is_not_touched(tmp_path):
    folder = make_project(tmp_path)
    (folder / ".venv").mkdir()
    (folder / ".venv" / "mine").write_text("")
    code, _, err = launch(folder)
    assert code == 1
    assert "was not made by ./train" in err
    assert os.listdir(folder / ".venv") == ["mine"]


def test_a_link_to_the_environment_of_another_checkout_is_not_emptied(project, tmp_path):
    folder = make_project(tmp_path)
    (folder / ".venv").symlink_to(project / ".venv")
    before = sorted(os.listdir(project / ".venv"))
    code, _, err = launch(folder)
    assert code == 1
    assert f"is a link to the environment of {project}" in err
    assert sorted(os.listdir(project / ".venv")) == before


def test_dependencies_without_the_package_run_the_source_and_say_so(tmp_path):
    folder = make_project(tmp_path)
    code, out, err = launch(folder, TRAIN_SETUP="")
    assert code == 0, err
    assert "has every dependency: .venv is not set up" in err
    assert not (folder / ".venv").exists()
    assert json.loads(out)["prefix"] == sys.base_prefix


def test_a_running_environment_that_has_the_package_sets_up_nothing(tmp_path):
    # This interpreter has the package, and packaging, with which ranges are read.
    folder = make_project(tmp_path, more='"packaging>=1", "jsonargparse[signatures]"')
    code, out, err = launch(folder, python=sys.executable, cwd=tmp_path.parent)
    assert (code, err) == (0, "")
    assert not (folder / ".venv").exists()
    assert json.loads(out)["prefix"] == sys.prefix


def test_an_old_python_says_so_or_finds_a_newer_one(tmp_path):
    old = sorted(Path.home().glob(".pyenv/versions/3.[6-9].*/bin/python"))
    if not old:
        pytest.skip("no Python older than 3.11 on this machine")
    folder = make_project(tmp_path)
    (tmp_path / "empty").mkdir()
    code, out, err = launch(folder, python=str(old[0]), PATH=str(tmp_path / "empty"))
    assert (code, out) == (1, "")
    assert "needs Python 3.11 or newer" in err
    assert "Traceback" not in err


def test_another_copy_of_the_package_in_the_working_folder_is_refused(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make_project(tmp_path / name)
    code, out, err = launch(tmp_path / "one", cwd=tmp_path / "two")
    assert (code, out) == (2, "")
    assert "another copy" in err


def test_the_syntax_is_that_of_python_3_6():
    import ast

    ast.parse((ROOT / "train").read_text(), feature_version=(3, 6))


@pytest.mark.parametrize(
    ("have", "expected"),
    [
        ({}, True),
        ({"PIP_FIND_LINKS": "folder"}, False),
        ({"PIP_INDEX_URL": "somewhere"}, False),
        ({"PIP_DEFAULT_TIMEOUT": "60"}, True),
        ({"PIP_FIND_LINKS": "folder", "UV_FIND_LINKS": "folder"}, True),
    ],
)
def test_uv_is_used_only_where_it_reads_the_same_index(tmp_path, monkeypatch, have, expected):
    launcher = load_launcher()
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\n")
    uv.chmod(0o755)
    for name in [n for n in os.environ if n.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    real = open
    monkeypatch.setattr(  # this machine's own /etc/pip.conf is no part of the question
        "builtins.open",
        lambda path, *a, **k: (
            real(os.devnull) if str(path).endswith("pip.conf") else real(path, *a, **k)
        ),
    )
    for name, value in have.items():
        monkeypatch.setenv(name, value)
    assert launcher.uv_reads_the_same_index() == (str(uv) if expected else None)


def test_uv_is_left_alone_where_a_file_of_pips_names_a_folder_of_wheels(tmp_path, monkeypatch):
    launcher = load_launcher()
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\n")
    uv.chmod(0o755)
    for name in [n for n in os.environ if n.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text("[global]\nfind-links = somewhere\n")
    assert launcher.uv_reads_the_same_index() is None


def test_unmet_names_missing_packages_wrong_versions_and_lacking_extras():
    unmet = load_launcher().unmet
    assert unmet(["packaging>=1", "no-such-package; python_version < '3'"]) == []
    assert unmet(["no-such-package"]) == ["no-such-package: not installed"]
    assert unmet(["packaging<1"])[0].startswith("packaging<1: ")
    assert unmet(["jsonargparse[signatures]"]) == []
