"""Configuration errors as one short message: the key, the file and line where it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sciembed_train.config.recipes import find_recipe, split_recipes
from sciembed_train.errors import UserError

# Lines of jsonargparse that repeat what was given, or list every type a union would take.
_NOISE = re.compile(
    r"^(Does not validate against any of the Union subtypes|Subtypes: .*|Errors:"
    r"|Given value( type)?: .*|- Expected a <class 'NoneType'>)$"
)
_NAMES = (
    re.compile(r"does not accept option '([^']+)'"),
    re.compile(r"Option '([^']+)' is not accepted"),
    re.compile(r"unrecognized arguments: --([\w.]+)"),
    re.compile(r"Parser key \"([^\"]+)\""),
)


def check_files(files: Sequence[Path]) -> None:
    """Raise UserError unless every file is there and is YAML, naming file and line."""
    import yaml

    for path in files:
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: is no UTF-8 text ({error}).") from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            what = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise UserError(f"{where}: is not YAML: {what}.") from error
        if not isinstance(content, dict):
            raise UserError(f"{path}: holds no settings; expected `key: value` lines.")


def shorten(message: str, argv: Sequence[str]) -> str:
    """A parser's message without noise, on one line, after the file and line of its key."""
    lines = (line.strip() for line in message.splitlines())
    parts = [re.sub(r"^- ", "", line) for line in lines if line and not _NOISE.match(line)]
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", " ".join(parts))
    text = text.replace("typing.Literal", "one of ")
    text = re.sub(r'Parser key "([^"]+)":', r"\1:", text)
    return f"{location(message, argv)}{text}"


def required_as_typed(message: str, flags: Mapping[str, str]) -> str:
    """A message on missing arguments, with options as they are typed: ``--to``, not ``to``."""
    head, required, names = message.partition("arguments are required: ")
    typed = [flags.get(name, name) for name in names.removesuffix(".").split(", ")]
    return f"{head}{required}{', '.join(typed)}." if required else message


def unknown_key(message: str) -> str | None:
    """The key or option that a parser's message calls unknown; None for any other message."""
    names = [name for pattern in _NAMES[:-1] for name in reversed(pattern.findall(message))]
    return names[0] if names else None


def location(message: str, argv: Sequence[str]) -> str:
    """``file:line: `` of the innermost key that a message names, if a recipe sets it.

    Empty if the command line sets the key: it overrides every file.
    """
    files, words = split_recipes(argv)
    names = [name for pattern in _NAMES for name in reversed(pattern.findall(message))]
    key = names[0].rpartition(".")[2] if names else ""
    dashed = key.replace("_", "[-_]")
    if not key or any(re.match(rf"--([\w-]+\.)*{dashed}(=|$)", word) for word in words):
        return ""
    for path in reversed([find_recipe(file) for file in files]):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if re.match(rf"\s*(?:.*[{{,]\s*)?{re.escape(key)}\s*:", line):
                return f"{path}:{number}: "
    return ""


def own_message(error: BaseException) -> str | None:
    """The message of this package's own error in a chain that a library has wrapped; else None."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, ValueError) and _raised_here(cause):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _raised_here(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith(
        "sciembed_train."
    )
