import importlib.util
import os
import platform
import subprocess
import sys
import types

import pytest

from sciembed_train import cli
from sciembed_train.errors import RunError, UserError


@pytest.fixture
def install(monkeypatch):
    """Makes ``main`` of a command's module whatever a test wants it to be."""

    def install_main(function):
        module = types.ModuleType("a_command")
        module.main = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "a_command", module)
        monkeypatch.setitem(cli.COMMANDS, "command", ("a_command", "what it does"))

    return install_main


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
def test_every_command_of_the_help_exists(command):
    module = cli.COMMANDS[command][0]
    assert importlib.util.find_spec(module) is not None
    assert callable(importlib.import_module(module).main)


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_explains_itself_without_torch(command):
    done = fresh(
        "import sys\nfrom sciembed_train.cli import main\n"
        f"code = 0\ntry:\n    code = main([{command!r}, '--help'])\n"
        "except SystemExit as end:\n    code = end.code\n"
        "print('\\ntorch' if 'torch' in sys.modules else '\\nlight')\nsys.exit(code)"
    )
    assert done.returncode == 0, done.stderr
    assert f" {command}" in done.stdout
    assert done.stdout.splitlines()[-1] == "light"


def test_help_names_every_command_and_leaves_with_0(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name, (_, what) in cli.COMMANDS.items():
        assert name in out
        assert what in out


def test_no_command_at_all_is_a_mistake(capsys):
    assert cli.main([]) == 2
    assert "usage: ./train COMMAND" in capsys.readouterr().out


def test_a_mistyped_command_is_2_and_the_near_one_is_named(capsys):
    assert cli.main(["evalute"]) == 2
    assert "'evaluate'" in capsys.readouterr().err


def test_a_user_error_is_one_message_and_2(install, capsys):
    def fails(argv):
        raise UserError("papers.jsonl:3: no `title`; add one.")

    install(fails)
    assert cli.main(["command"]) == 2
    assert capsys.readouterr().err == "./train command: papers.jsonl:3: no `title`; add one.\n"


def test_a_defect_keeps_its_traceback(install):
    def fails(argv):
        raise ValueError("ours")

    install(fails)
    with pytest.raises(ValueError, match="ours"):
        cli.main(["command"])


def test_work_that_cannot_go_on_is_one_message_and_1(install, capsys):
    def fails(argv):
        raise RunError("the disk is full; make room.")

    install(fails)
    assert cli.main(["command"]) == 1
    assert capsys.readouterr().err == "./train command: the disk is full; make room.\n"


def test_interrupting_is_130(install):
    def interrupted(argv):
        raise KeyboardInterrupt

    install(interrupted)
    assert cli.main(["command"]) == 130


def test_the_rest_of_the_line_and_the_code_pass_through(install):
    seen = []

    def main(argv):
        seen.extend(argv)
        return 5

    install(main)
    assert cli.main(["command", "--a", "1"]) == 5
    assert seen == ["--a", "1"]


def test_a_closed_pipe_prints_no_traceback():
    code = (
        "import os, sys\nfrom sciembed_train import cli\n"
        "def main(argv):\n    print('x' * 100000, flush=True)\n"
        "import types\nm = types.ModuleType('v'); m.main = main\nsys.modules['v'] = m\n"
        "cli.COMMANDS['v'] = ('v', '')\n"
        "r, w = os.pipe(); os.close(r); os.dup2(w, 1)\nsys.exit(cli.main(['v']))"
    )
    done = fresh(code)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    "words", [["--help"], ["fit", "--help"], ["recipes"], ["completion", "zsh"]]
)
def test_what_nobody_reads_ends_quietly(words):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "sciembed_train.cli", *words],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.slow
def test_the_package_is_imported_where_the_modules_of_unix_are_missing():
    done = fresh(
        "import sys, pkgutil, importlib\n"
        "unix = ('resource', 'fcntl', 'pwd', 'grp', 'termios')\n"
        "sys.modules.update(dict.fromkeys(unix))\n"
        "import sciembed_train\n"
        "for module in pkgutil.walk_packages(sciembed_train.__path__, 'sciembed_train.'):\n"
        "    importlib.import_module(module.name)\n"
        "import torch\nfrom sciembed_train.training.callbacks.throughput import peak_memory_gb\n"
        "print(peak_memory_gb(torch.device('cpu')))"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "None"


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


def test_the_help_of_fit_is_quick_and_short():
    done = fresh(
        "import sys, time\nfrom sciembed_train.cli import main\n"
        "try:\n    main(['fit', '--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print(time.process_time())"
    )
    *lines, seconds = done.stdout.splitlines()
    assert float(seconds) < 3
    assert len(lines) < 60
    assert sum(line.startswith("  --") or line.startswith("  -c") for line in lines) < 20
    assert sum(line.startswith("  ./train fit -c") for line in lines) == 2


def test_a_full_disk_that_no_command_expects_is_one_message_too(monkeypatch, capsys, tmp_path):
    import errno
    from types import SimpleNamespace

    def full(argv):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "picture.html"))

    monkeypatch.setattr(cli.importlib, "import_module", lambda name: SimpleNamespace(main=full))
    assert cli.main(["compare"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'picture.html'} cannot be written: No space left on device" in said


def test_a_copy_without_room_names_what_was_to_be_written(monkeypatch, capsys, tmp_path):
    import shutil
    from types import SimpleNamespace

    from tests.helpers.small_disk import largest_file

    def copy(argv):
        shutil.copyfile(tmp_path / "source", tmp_path / "copy")

    (tmp_path / "source").write_bytes(bytes(3000))
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: SimpleNamespace(main=copy))
    with largest_file(1000):
        assert cli.main(["compare"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'copy'} cannot be written: File too large" in said


FREED = """
import ctypes
from sciembed_train import cli
if {fixed}:
    cli.keep_memory_flat()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def tensor(size):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    return block

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

libc.free(tensor(30 << 20))  # with this glibc takes tensors of up to so much for its own pieces
before = resident()
one, other = tensor(10 << 20), tensor(10 << 20)
libc.free(one)  # which lies between others
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_tensors_go_back_to_the_system():
    if "glibc" not in " ".join(platform.libc_ver()):
        pytest.skip("another C library than glibc")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    kept = {}
    for fixed in (True, False):
        done = subprocess.run(
            [sys.executable, "-c", FREED.format(fixed=fixed)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        kept[fixed] = float(done.stdout)
    assert 10 < kept[True] < 12
    assert 20 < kept[False] < 24


def test_a_threshold_that_the_user_has_set_stays(monkeypatch):
    called = []
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "1000")
    monkeypatch.setattr(cli.ctypes, "CDLL", lambda name: called.append(name))
    cli.keep_memory_flat()
    assert called == []
