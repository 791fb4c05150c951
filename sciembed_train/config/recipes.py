"""Recipes: files of settings, found by path or, those that are shipped, by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

from sciembed_train.errors import UserError, why_no_file

PACKAGE = Path(__file__).resolve().parents[1]
# In a checkout beside the package; in a wheel inside it.
FOLDERS = (PACKAGE.parent / "configs", PACKAGE / "configs")
CONFIG = ("-c", "--config")  # the options that name a recipe
MACHINE = "machine"  # the sub-folder of what belongs to a machine and not to an experiment


def find_recipe(name: str) -> Path:
    """The file of a recipe.

    Args:
        name: a path, or the name of a shipped recipe, such as ``specter`` or ``machine/cpu``.

    Raises:
        UserError: there is none.
    """
    path = Path(name)
    if path.is_file():
        return path
    for folder in _folders():
        shipped = folder / f"{name.removesuffix('.yaml')}.yaml"
        if (
            not path.is_absolute()
            and shipped.is_file()
            and shipped.resolve().is_relative_to(folder)
        ):
            return shipped
    if path.exists():
        raise UserError(f"{name}: cannot be read: it {why_no_file(path, 'recipe')}.")
    names = [*shipped_recipes(), *shipped_machines()]
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else " `recipes` lists those that are shipped."
    raise UserError(f"{name}: cannot be read: there is no such file and no shipped recipe.{hint}")


def split_recipes(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The recipes that ``-c`` and ``--config`` name, in their order, and the other words.

    Raises:
        UserError: the last word is ``-c`` or ``--config``, without a recipe.
    """
    files: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        if word in CONFIG:
            file = next(words, None)
            if file is None:
                raise UserError(f"{word} needs a recipe: a file, or the name of a shipped one.")
            files.append(file)
        elif word.startswith("--config="):
            files.append(word.partition("=")[2])
        else:
            rest.append(word)
    return files, rest


def shipped_recipes() -> dict[str, Path]:
    """The shipped recipes by name."""
    return {path.stem: path for folder in _folders() for path in sorted(folder.glob("*.yaml"))}


def shipped_machines() -> dict[str, Path]:
    """The shipped machine files by name."""
    return {
        f"{MACHINE}/{path.stem}": path
        for folder in _folders()
        for path in sorted((folder / MACHINE).glob("*.yaml"))
    }


def describe_recipe(path: Path) -> str:
    """A line on a recipe: its leading comment up to a quotation or the end of a sentence."""
    lines: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").strip())
    text = " ".join(line for line in lines if line).split(" Expect:")[0]
    text = re.split(r'[,:] "|(?<!al)\. ', text)[0].removesuffix(".")
    return shorten(text, 100, placeholder=" ...")


def _folders() -> list[Path]:
    """The one folder of shipped recipes that exists: a wheel has no checkout around it."""
    return [folder.resolve() for folder in FOLDERS if (folder / "specter.yaml").is_file()][:1]
