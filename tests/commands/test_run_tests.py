import pytest

from sciembed_train.commands import run_tests
from sciembed_train.errors import UserError


@pytest.fixture
def calls(monkeypatch):
    """What would have been started; ``fails`` says which tools fail."""
    started = []
    fails = set()

    def call(command, cwd):
        assert cwd == run_tests.ROOT
        started.append(command[2:])
        return 3 if command[2] in fails else 0

    class Beside:
        """A tool that runs while another does, and is waited for."""

        def __init__(self, command, cwd, stdout, stderr):
            self.code = call(command, cwd)
            stdout.write("what it says\n")

        def wait(self):
            started.append(["wait"])
            return self.code

        def kill(self):
            started.append(["kill"])

    monkeypatch.setattr(run_tests.subprocess, "call", call)
    monkeypatch.setattr(run_tests.subprocess, "Popen", Beside)
    monkeypatch.setattr(run_tests.importlib.util, "find_spec", lambda name: name)  # all are there
    return started, fails


def test_without_arguments_everything_runs_even_after_a_failure(calls, capsys):
    started, fails = calls
    fails |= {"ruff", "basedpyright"}
    assert run_tests.main([]) == 1
    names = [c[0] for c in started]
    assert names == ["ruff", "ruff", "basedpyright", "pytest", "wait", "kill"]
    said = capsys.readouterr().out
    assert "what it says\ntypes: FAILED" in said
    assert "failed: lint, format, types" in said


def test_what_runs_beside_the_tests_ends_with_them(calls, monkeypatch):
    started, _ = calls

    def interrupted(command, cwd):
        if "pytest" in command:
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(run_tests.subprocess, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_tests.main([])
    assert [c[0] for c in started] == ["basedpyright", "kill"]


def test_all_passed_is_zero(calls):
    assert run_tests.main([]) == 0


def test_with_arguments_pytest_runs_alone_and_its_code_is_returned(calls):
    started, fails = calls
    fails.add("pytest")
    assert run_tests.main(["-q", "tests/test_cli.py"]) == 3
    assert started == [["pytest", "-q", "tests/test_cli.py"]]


def test_a_missing_tool_is_named(monkeypatch):
    monkeypatch.setattr(run_tests, "CHECKS", (("lint", "no_such_tool", ("no_such_tool",)),))
    with pytest.raises(UserError, match="no_such_tool not installed"):
        run_tests.main([])


def test_an_installed_package_without_tests_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    with pytest.raises(UserError, match="checkout"):
        run_tests.main([])
