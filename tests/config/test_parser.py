import subprocess
import sys
from dataclasses import dataclass, field
from typing import Literal

import pytest

from sciembed_train.config import parser
from sciembed_train.config.parser import CommandLine, build
from sciembed_train.errors import UserError


@dataclass(frozen=True)
class Inner:
    """Nested things.

    Args:
        size: tokens, at least 1.
    """

    size: int = 3

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"size must be 1 or more; got {self.size}.")


@dataclass(frozen=True)
class Options:
    """Things to set.

    Args:
        model: a model folder.
        input: a file.
        batch_tokens: tokens of a forward pass.
        kind: which kind.
        quiet: print nothing.
        checked: look twice.
        inner: more of it.
    """

    model: str
    input: str
    batch_tokens: int = 8192
    kind: Literal["a", "b"] = "a"
    quiet: bool = False
    checked: bool = True
    inner: Inner = Inner()


def line(**settings) -> CommandLine:
    made = CommandLine("embed", "Makes vectors.", examples=("in --model m",), **settings)
    made.add(Options, positionals=("input",))
    return made


def read(*words, **settings) -> Options:
    return line(**settings).read(words).get(Options)


def test_words_become_a_dataclass_with_dashes_or_underscores():
    assert read("in", "--model", "m") == Options("m", "in")
    expected = Options("m", "in", 5, "b", True, False, Inner(7))
    words = ["--batch-tokens", "5", "--kind=b", "--quiet", "--no-checked", "--inner.size", "7"]
    assert read("in", "--model", "m", *words) == expected
    words = ["--batch_tokens=5", "--kind", "b", "--quiet", "true", "--checked=false"]
    assert read(*words, "in", "--inner.size=7", "--model=m") == expected


def test_short_names_and_presets_stand_for_whole_keys():
    settings = {"aliases": {"size": "inner.size"}, "presets": {"small": {"inner.size": 1}}}
    assert read("in", "--model=m", "--size", "9", **settings).inner == Inner(9)
    assert read("in", "--model=m", "--small", **settings).inner == Inner(1)
    assert read("in", "--model=m", "--size", "9", "--small", **settings).inner == Inner(9)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in"], "model"),
        (["in", "--model", "m", "--batch", "3"], "unrecognized arguments: --batch 3"),
        (["in", "--model", "m", "--siz", "3"], r"Did you mean --inner\.size\?"),
        (["in", "--model", "m", "--size", "3"], r"Did you mean --inner\.size\?"),
        (["in", "--model", "m", "--kind", "c"], "kind"),
        (["in", "--model", "m", "--batch-tokens", "many"], "Expected a int. Got value: many"),
        (["in", "--model", "m", "--inner.size", "0"], "size must be 1 or more; got 0"),
    ],
)
def test_a_mistake_is_one_line(words, message):
    with pytest.raises(UserError, match=message) as refused:
        read(*words)
    assert "\n" not in str(refused.value)


def test_an_error_of_our_own_code_keeps_its_traceback():
    @dataclass(frozen=True)
    class Broken:
        """Broken."""

        size: int = 1

        def __post_init__(self) -> None:
            int("x")

    with pytest.raises(ValueError, match="invalid literal"):
        build(Broken, {"size": 1})


def test_the_short_help_has_the_common_options_and_the_long_one_all(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/sciembed-train"])
    made = line(common=("model", "inner.size"))
    for words in (["--help"], ["in", "-h"]):
        with pytest.raises(SystemExit) as left:
            made.read(words)
        assert left.value.code == 0
    short = capsys.readouterr().out
    assert "usage: sciembed-train embed INPUT [OPTIONS]" in short
    assert "--inner.size N" in short
    assert "tokens, at least 1. (default 3)" in short
    assert "--batch_tokens" not in short
    assert short.rstrip().endswith("examples:\n  sciembed-train embed in --model m")
    for word in ("--help_all", "--help-all"):
        with pytest.raises(SystemExit):
            made.read([word])
        long = capsys.readouterr().out
        assert "--batch_tokens N" in long
        assert "--kind a|b" in long
        assert "a model folder. (required)" in long
        assert "INPUT" in long


def test_the_example_of_the_modules_page_runs():
    code = "\n".join(
        text[4:] if text.startswith("    ") else text
        for text in (parser.__doc__ or "").split("::\n")[1].split("\nSeveral")[0].splitlines()
    )
    code = (
        "from dataclasses import dataclass\n"
        "from sciembed_train.config.parser import CommandLine\n" + code + "\n"
        "    print(options)\nmain(['--model', 'm', '--batch-tokens', '5'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "EmbedCommand(model='m', batch_tokens=5)\n", done.stderr


@dataclass(frozen=True)
class Named:
    """Names.

    Args:
        columns: names by field.
    """

    columns: dict[str, str] = field(default_factory=dict)


def test_entries_of_a_mapping_are_given_one_by_one():
    made = CommandLine("prepare", "Makes.", aliases={"map": "data.columns"})
    made.add(Named, "data")
    words = ["--map", "title=display name", "--map=citing=2", "--data.columns.cited", "3"]
    expected = {"title": "display name", "citing": "2", "cited": "3"}
    assert made.read(words).get(Named).columns == expected
    assert made.read(["--map", "{title: name}"]).get(Named).columns == {"title": "name"}
    with pytest.raises(UserError, match="columns"):
        made.read(["--map", "title"])


@dataclass(frozen=True)
class Question:
    """What is asked.

    Args:
        text: a text.
        folder: where.
    """

    text: str | None = None
    folder: str = "here"


def test_a_text_to_read_may_be_long_and_have_line_ends_and_a_name_may_not():
    line = CommandLine("try", "Try it.")
    line.add(Question, positionals=("text",), texts=("text",))
    long = "one line\n" + "a/" + "z" * 300
    assert line.read([long, "--folder", "there"]).get(Question) == Question(long, "there")
    with pytest.raises(UserError, match=r"folder: got .*line ends"):
        line.read(["a text", "--folder", "a\nb"])
    with pytest.raises(UserError, match="text: got an empty text"):
        line.read([""])


def test_a_field_that_is_left_out_has_no_option_and_keeps_its_default():
    line = CommandLine("embed", "Makes vectors.")
    line.add(Options, left_out=("batch_tokens",))
    assert line.read(["--input", "in", "--model", "m"]).get(Options) == Options("m", "in")
    with pytest.raises(UserError, match="--batch_tokens"):
        line.read(["--input", "in", "--model", "m", "--batch_tokens", "5"])
