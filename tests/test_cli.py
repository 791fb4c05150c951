import importlib.util
import os
import subprocess
import sys
import types

import pytest

from sciembed_train import cli
from sciembed_train.errors import UserError


@pytest.fixture
def verb(monkeypatch):
    """Makes ``main`` of a command's module whatever a test wants it to be."""

    def install(function):
        module = types.ModuleType("a_verb")
        module.main = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "a_verb", module)
        monkeypatch.setitem(cli.COMMANDS, "command", ("a_verb", "what it does"))

    return install


def fresh(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["fitt"]])
def test_looking_imports_no_heavy_library(arguments):
    done = fresh(
        "import sys\nfrom sciembed_train.cli import main\n"
        f"main({arguments!r})\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    assert done.returncode == 0, done.stderr
    modules = done.stdout.splitlines()[-1]
    for heavy in ("torch", "transformers", "pytorch_lightning", "numpy", "duckdb", "pyarrow"):
        assert f"'{heavy}'" not in modules


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_verb_of_the_help_exists(verb):
    module, _, function = cli.COMMANDS[verb][0].partition(":")
    assert importlib.util.find_spec(module) is not None
    assert callable(getattr(importlib.import_module(module), function or "main"))


# Their options are the arguments of the classes that a recipe names: LightningCLI imports those.
OF_CLASSES = {"fit", "validate"}


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_explains_itself_and_imports_torch_only_where_it_must(command):
    done = fresh(
        "import sys\nfrom sciembed_train.cli import main\n"
        f"code = 0\ntry:\n    code = main([{command!r}, '--help'])\n"
        "except SystemExit as end:\n    code = end.code\n"
        "print('\\ntorch' if 'torch' in sys.modules else '\\nlight')\nsys.exit(code)"
    )
    assert done.returncode == 0, done.stderr
    assert f"usage: train {command}" in done.stdout
    if command not in OF_CLASSES:
        assert done.stdout.splitlines()[-1] == "light"


def test_help_names_every_verb_and_leaves_with_0(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, (_, what) in cli.COMMANDS.items():
        assert name in out
        assert what in out


def test_no_verb_at_all_is_a_mistake(capsys):
    assert cli.main([]) == 2
    assert "usage: train VERB" in capsys.readouterr().out


def test_a_mistyped_verb_is_2_and_the_near_one_is_named(capsys):
    assert cli.main(["evalute"]) == 2
    assert "'evaluate'" in capsys.readouterr().err


def test_a_user_error_is_one_message_and_2(verb, capsys):
    def fails(argv):
        raise UserError("papers.jsonl:3: no `title`; add one.")

    verb(fails)
    assert cli.main(["command"]) == 2
    assert capsys.readouterr().err == "train command: papers.jsonl:3: no `title`; add one.\n"


def test_a_defect_keeps_its_traceback(verb):
    def fails(argv):
        raise ValueError("ours")

    verb(fails)
    with pytest.raises(ValueError, match="ours"):
        cli.main(["command"])


def test_interrupting_is_130(verb):
    def interrupted(argv):
        raise KeyboardInterrupt

    verb(interrupted)
    assert cli.main(["command"]) == 130


def test_the_rest_of_the_line_and_the_code_pass_through(verb):
    seen = []

    def main(argv):
        seen.extend(argv)
        return 5

    verb(main)
    assert cli.main(["command", "--a", "1"]) == 5
    assert seen == ["--a", "1"]


def test_a_closed_pipe_prints_no_traceback():
    code = (
        "import os, sys\nfrom sciembed_train import cli\n"
        "def main(argv):\n    print('x' * 100000, flush=True)\n"
        "import types\nm = types.ModuleType('v'); m.main = main\nsys.modules['v'] = m\n"
        "cli.VERBS['v'] = ('v', '')\n"
        "r, w = os.pipe(); os.close(r); os.dup2(w, 1)\nsys.exit(cli.main(['v']))"
    )
    done = fresh(code)
    assert done.returncode == 1
    assert done.stderr == ""


def test_slurm_sets_the_threads_and_the_user_wins(monkeypatch):
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cli.set_environment()
    assert os.environ["OMP_NUM_THREADS"] == "6"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    cli.set_environment()
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_whether_to_go_online_is_left_to_the_user(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    cli.set_environment()
    assert "HF_HUB_OFFLINE" not in os.environ
