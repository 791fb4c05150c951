"""The command ``test``: lint, types and tests; with arguments, pytest alone."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sciembed_train.errors import UserError

ROOT = Path(__file__).resolve().parents[2]

# The checks that run without arguments, and the module each needs. All of them run, so that one
# look shows everything to fix. The type check takes one core for a minute: it runs beside the
# tests and is reported after them.
CHECKS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("lint", "ruff", ("ruff", "check", "--quiet", ".")),
    ("format", "ruff", ("ruff", "format", "--check", "--quiet", ".")),
    ("types", "basedpyright", ("basedpyright", "--level", "error")),
    # A file's tests stay together: they share what is slow to make. Each process holds a torch of
    # its own, so that not every core of a large machine gets one.
    ("tests", "pytest", ("pytest", "-n", "auto", "--maxprocesses=4", "--dist=loadfile")),
)


def check(name: str, arguments: tuple[str, ...]) -> int:
    """Run one of the tools of this interpreter's environment at the top of the checkout."""
    begun = time.monotonic()
    code = subprocess.call([sys.executable, "-m", *arguments], cwd=ROOT)
    if name != "tests":
        print(f"{name}: {verdict(code)} ({time.monotonic() - begun:.1f} s)", flush=True)
    return code


def verdict(code: int) -> str:
    """A tool's exit status, in a word."""
    return "passed" if code == 0 else "FAILED"


@contextlib.contextmanager
def beside(name: str, arguments: tuple[str, ...], failed: list[str]) -> Iterator[None]:
    """Run a tool while the block runs, then print its output."""
    with tempfile.TemporaryFile("w+") as output:
        command = [sys.executable, "-m", *arguments]
        tool = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield
            code = tool.wait()
        finally:
            tool.kill()
        output.seek(0)
        print(output.read(), end="")
        print(f"{name}: {verdict(code)}", flush=True)
    if code != 0:
        failed.append(name)


def main(argv: list[str]) -> int:
    """Run the checks, or pytest with the given arguments; paths are from the checkout's top.

    Returns:
        0 when everything passed; with arguments pytest's own code, else 1.

    Raises:
        UserError: there is no checkout around the package, or a tool is not installed.
    """
    if argv and argv[0] in ("-h", "--help"):
        parser = argparse.ArgumentParser(
            "train test",
            description="Without arguments: ruff check, ruff format --check, basedpyright and "
            "pytest, all of them, exit code 1 if one fails. With arguments: pytest alone, with "
            "them. --slow runs the tests marked slow as well.",
        )
        parser.add_argument("arguments", nargs="*", metavar="PYTEST_ARGUMENT")
        parser.print_help()
        return 0
    if not (ROOT / "tests").is_dir():
        raise UserError(
            f"{ROOT} is an installed package without tests. Run ./train test in a checkout."
        )
    checks = CHECKS[-1:] if argv else CHECKS
    missing = sorted(
        {module for _, module, _ in checks if importlib.util.find_spec(module) is None}
    )
    if missing:
        raise UserError(
            f"{', '.join(missing)} not installed in {sys.prefix}. Install the development set "
            "there (pip install -c constraints.txt -e '.[dev]'), or leave the environment: "
            "./train makes its own."
        )
    if argv:
        return check("tests", ("pytest", *argv))
    *first, (types, _, types_arguments), (tests, _, tests_arguments) = CHECKS
    failed = [name for name, _, arguments in first if check(name, arguments) != 0]
    with beside(types, types_arguments, failed):
        if check(tests, tests_arguments) != 0:
            failed.append(tests)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0
