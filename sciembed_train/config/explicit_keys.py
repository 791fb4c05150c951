"""Which settings of the encoder the user set, apart from the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_SECTION = "model.encoder"


@dataclass(frozen=True)
class ExplicitKeys:
    """The keys of ``model.encoder`` that the user set, and the start that the recipe names.

    The recipe is the last file that names a method, or the first where none does, with the files
    before it. Later files are the user's own, like the words of the command line.

    Args:
        keys: dotted, such as ``pooling`` and ``input_format.separator``.
        recipe_backbone: the start that the recipe names; None where it names none.
    """

    keys: frozenset[str] = frozenset()
    recipe_backbone: str | None = None


def explicit_keys(files: Sequence[Path], words: Sequence[str]) -> ExplicitKeys:
    """The encoder's keys in the user's own files and words.

    Args:
        files: the recipes, in their order.
        words: the other words of the command line, with whole keys.
    """
    contents = [_content(path) for path in files]
    method_files = [
        index for index, content in enumerate(contents) if "model.class_path" in content
    ]
    recipe = method_files[-1] if method_files else 0
    user_keys = [key for content in contents[recipe + 1 :] for key in content]

    with_backbone = [c for c in contents[: recipe + 1] if f"{_SECTION}.backbone" in c]
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if not word.startswith("--model"):
            continue
        key, equals, value = word[2:].partition("=")
        key = key.replace("model.init_args.", "model.", 1)
        user_keys += [name for name, _ in _flat(_value(value if equals else following), key)]
    prefix = f"{_SECTION}."
    return ExplicitKeys(
        frozenset(key.removeprefix(prefix) for key in user_keys if key.startswith(prefix)),
        str(with_backbone[-1][f"{_SECTION}.backbone"]) if with_backbone else None,
    )


def _content(path: Path) -> dict[str, Any]:
    """A recipe's model section by dotted key, without ``init_args``."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    model = content.get("model") if isinstance(content, dict) else None
    return {
        key.replace("model.init_args.", "model.", 1): value for key, value in _flat(model, "model")
    }


def _value(word: str) -> Any:
    try:
        return yaml.safe_load(word)
    except yaml.YAMLError:
        return word


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Values below a key, by dotted key."""
    if not isinstance(value, Mapping):
        yield key, value
        return
    for name, below in value.items():
        if name == "init_args" and key == "model":
            yield from _flat(below, key)
        else:
            yield from _flat(below, f"{key}.{name}")
