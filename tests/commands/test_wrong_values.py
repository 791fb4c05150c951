"""Wrong values typed into every setting of every command: exit 2 and one message, in seconds.

The settings are the parser's own, so that a new one is covered by itself. What is wrong follows
from its type: a number that is no number, is below 0 or has thirty digits; a text that can be no
name. A value that may be right for one of these settings belongs into `ADMITTED`, with a reason.
"""

import importlib
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Literal, get_origin

import pytest

from sciembed_train import cli
from sciembed_train.config.options import Option, parts
from tests.helpers.small_corpus import write_small_corpus

SECONDS = 10
NO_NUMBER = ["two", ".nan", "[1]", "{a: 1}", "1" + "0" * 30]
LONG, TWO_LINES = "z" * 300, "a\nb"
NO_CLASS = ["nonsense", "nonsense.Class", "7", "{class_path: os.system}", "[7]"]

LARGE = NO_NUMBER[-1]
ADMITTED: dict[tuple[str, str], set[str]] = {
    # Large numbers that are numbers: the run then fails by its loss, which is tested there.
    **{
        (command, f"model.{name}"): {LARGE}
        for command in ("fit", "validate")
        for name in (
            *("margin", "optim.lr", "optim.weight_decay", "optim.eps", "optim.clip_norm"),
            "optim.ratio",
        )
    },
    # A text to search for is no name.
    ("search", "query"): {TWO_LINES, LONG},
    # So large a temperature weighs all sentences alike, as 5000 does.
    ("compare", "temperature"): {LARGE},
}
# Settings of recipes are checked alike by each of these; `fit` has them all.
OF_RECIPES = ("prepare", "show", "validate", "doctor")
SUITE = "evaluate --suite"  # has options of its own
COMMANDS = sorted((set(cli.COMMANDS) | {SUITE}) - {"test"})  # whose options are pytest's


@pytest.fixture(scope="module")
def base(tiny_bert, tmp_path_factory):
    """Right words of each command; what they name is opened only where all values are right."""
    folder = tmp_path_factory.mktemp("wrong")
    write_small_corpus(folder / "corpus", tiny_bert)
    model, corpus, to = str(tiny_bert), str(folder / "corpus"), str(folder / "to")
    papers = folder / "papers.jsonl"
    papers.write_text('{"paper_id": "p", "title": "t", "abstract": "a"}\n')
    data = ["-c", "specter", "--data.corpus", corpus, "--model.encoder.backbone", model]
    run = ["--model.encoder.max_length", "64", "--data.batch_size", "8", "--trainer.max_steps", "1"]
    run += ["--trainer.accelerator", "cpu", "--trainer.devices", "1", "--verdict", "off"]
    run += ["--root", str(folder / "runs"), "--trainer.precision", "32-true", "--no_export"]
    made = {"embed": ["--model", model, "--input", str(papers), "--to", f"{to}.npy"]}
    made["index"] = ["--vectors", "/nowhere.npy", "--to", to]
    made["search"] = ["a text", "--index", "/nowhere"]
    made["align"] = made["mine"] = [corpus, "--model", model]
    made["export"] = made["import"] = [model, "--to", to]
    made["merge"] = [model, model, "--to", to]
    made["push"] = [model, "me/model"]
    made["init"] = ["/nowhere"]
    made["compare"] = ["p", "q", "--model", model, "--papers", str(papers)]
    made["evaluate"] = ["--benchmark", "title_abstract", "--data", str(papers), "--model", "random"]
    suite = folder / "suite.yaml"
    suite.write_text(f"benchmarks: [{{benchmark: title_abstract, data: {papers}}}]\n")
    made[SUITE] = ["--suite", str(suite), "--model", "random", "--to", to]
    made["prepare"] = ["-c", "specter", "--papers", "/nowhere", "--to", to]
    made["show"] = data
    made["fit"] = [*data, *run]
    made["validate"] = [*data, *run, "--ckpt_path", "/nowhere/last.ckpt"]
    made["completion"] = ["bash"]
    made["quickstart"], made["recipes"], made["doctor"] = ["--to", "/proc/nowhere"], [], []
    return SimpleNamespace(words=made, root=folder)


def wrong_values(option: Option) -> list[str]:
    """Values that an option of this type may not have."""
    kinds = parts(option.kind)
    if option.kind is bool:
        return ["maybe", "7"]
    if str in kinds or Path in kinds:
        return [TWO_LINES, LONG, *([""] if option.default != "" else [])]
    if int in kinds or float in kinds:
        return [*NO_NUMBER, "-7", ".inf"]
    if any(get_origin(kind) is Literal for kind in kinds):
        return ["nonsense", "", "7"]
    if any(get_origin(kind) is dict for kind in kinds):
        return ["nonsense", "[1]"]
    return NO_CLASS


def trials(command: str, words: list[str], line) -> list[tuple[Option, str, list[str]]]:
    """Each option with each of its wrong values, and the words of the command line."""
    options = line.shown(line.options(words if hasattr(line, "trains") else ()))
    made = []
    places = [option.key for option in options if not option.names[0].startswith("-")]
    for option in options:
        if option.key in ("config", "print_config") or option.key.endswith(".help"):
            continue
        for value in wrong_values(option):
            if value in ADMITTED.get((command, option.key), ()):
                continue
            typed = [*words, f"--{option.key}={value}"]
            if option.key in places:
                typed = list(words)
                typed[places.index(option.key)] = value
            made.append((option, value, typed))
    return made


class TooLong(Exception):
    """A command is at work, where it should have refused a value."""


@pytest.fixture
def clock():
    def ring(number, frame):
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda: signal.alarm(SECONDS)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def fault_of(command, option, value, words, capsys) -> str | None:
    """What is wrong with how a command refuses a value; None where it is right."""
    command = command.partition(" ")[0]
    try:
        code = cli.main([command, *words])
    except SystemExit as left:
        code = left.code
    except Exception as error:
        return f"ends in {error!r:.300}"
    said = capsys.readouterr().err
    name = option.key.rpartition(".")[2]
    if code != 2:
        return f"exit {code}"
    if said.count(f"./train {command}: ") != 1 or "Traceback" in said:
        return f"not one message: {said}"
    if not any(word in said for word in (name, name.replace("_", "-"), value or name)):
        return f"does not name the setting: {said}"
    if value == TWO_LINES and value in said:
        return f"the message is cut in two: {said}"
    return None


def faults(command, base, capsys, monkeypatch, clock, keep) -> list[str]:
    module, make = _maker(command)
    line = getattr(module, make)()
    monkeypatch.setattr(module, make, lambda: line)  # making it takes half the time
    found, tried = [], 0
    for option, value, words in trials(command, base.words[command], line):
        if keep(option, value):
            clock()
            fault = fault_of(command, option, value, words, capsys)
            tried += 1
            found += [] if fault is None else [f"--{option.key} {value[:40]!r}: {fault}"]
    assert tried
    return found


@pytest.mark.filterwarnings("ignore")  # of Lightning, on what these words ask for
@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_value_is_one_message_that_names_its_setting(
    command, base, capsys, monkeypatch, clock
):
    common = {option.key for option in _line("fit").options(base.words["fit"])}
    few = {TWO_LINES, "", "maybe", "nonsense", "nonsense.Class", ".nan", "-7"}

    def keep(option, value):  # one of the few; the slow test below types them all
        values = [wrong for wrong in wrong_values(option) if wrong in few]
        chosen = values[zlib.crc32(option.key.encode()) % len(values)]
        left = command in OF_RECIPES and option.key in common
        # Each value takes `fit` a tenth of a second and more: every third of its settings.
        left |= command == "fit" and zlib.crc32(option.key.encode()[::-1]) % 3 > 0
        return value == chosen and not left

    found = faults(command, base, capsys, monkeypatch, clock, keep)
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_wrong_value_is_one_message_that_names_its_setting(
    command, base, capsys, monkeypatch, clock
):
    if command == "validate":  # without a checkpoint its settings are not looked at
        made = ["--root", str(base.root / "made"), "--run", "made"]
        assert cli.main(["fit", *base.words["fit"], *made]) == 0
        base.words["validate"][-1] = str(base.root / "made" / "made" / "last.ckpt")
    found = faults(command, base, capsys, monkeypatch, clock, lambda option, value: True)
    assert not found, "\n".join(found)


def _maker(command: str):
    """The module of a command, and the name of its function that makes the options."""
    module = importlib.import_module(cli.COMMANDS[command.partition(" ")[0]][0])
    return module, "suite_line" if command == SUITE else "command_line"


def _line(command: str):
    module, make = _maker(command)
    return getattr(module, make)()


REAL = [
    ("fit", "--trainer.devices", "-1"),
    ("fit", "--trainer.devices", "two"),
    ("fit", "--trainer.accelerator", "tpu"),
    ("fit", "--trainer.precision", "16-mixed"),
    ("fit", "--seed_everything", "-5"),
    ("fit", "--run", LONG),
    ("fit", "--run", TWO_LINES),
    ("fit", "--data.dev_share", "1.5"),
    ("fit", "--early_stopping.patience", "-1"),
    ("fit", "--model.optim.lr", ".nan"),
    ("fit", "--ckpt_path", __file__),
    ("fit", "--data.num_workers", "100000"),
    ("validate", "--ckpt_path", __file__),
    ("show", "--count", "-1"),
    ("embed", "--batch_tokens", "1" + "0" * 30),
    ("embed", "--device", "toaster"),
    ("export", "--to", ""),
    ("import", "--temperature", "-1"),
    ("evaluate", "--sample", "-1"),
    ("compare", "--max_bad_rows", "-1"),
    ("mine", "--margin", ".inf"),
    ("prepare", "--to", LONG),
]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "name", "value"), REAL)
def test_a_real_command_refuses_a_wrong_value(command, name, value, base):
    done = subprocess.run(
        [sys.executable, "-m", "sciembed_train.cli", command, *base.words[command], name, value],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count(f"./train {command}: ") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert not (base.root / "runs").exists()
