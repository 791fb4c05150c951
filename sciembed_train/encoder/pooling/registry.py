"""The poolings by name; importing this imports no torch.

A pooling from outside the package needs no line here: ``encoder.pooling`` takes the import path of
its class as well (``my_package.my_module.MaxPooling``).
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError


@dataclass(frozen=True)
class PoolingEntry:
    """A registered pooling.

    Args:
        path: import path of its class.
        per_sentence: whether it gives a vector for each sentence; the class says the same.
    """

    path: str
    per_sentence: bool = False


_PACKAGE = "sciembed_train.encoder.pooling"
POOLINGS = {
    "cls": PoolingEntry(f"{_PACKAGE}.first_token.Cls"),
    "mean": PoolingEntry(f"{_PACKAGE}.token_mean.Mean"),
    "last": PoolingEntry(f"{_PACKAGE}.last_token.LastToken"),
    "mix": PoolingEntry(f"{_PACKAGE}.layer_mix.LayerMix"),
    "sentences": PoolingEntry(f"{_PACKAGE}.sentence_means.SentenceMeans", per_sentence=True),
}


def is_pooling_name(name: str) -> bool:
    """Whether a name is registered, or has the form of an import path."""
    parts = name.split(".")
    return name in POOLINGS or (len(parts) > 1 and all(part.isidentifier() for part in parts))


def import_pooling(name: str) -> Any:
    """The class of a registered name or an import path; `base.pooling_class` checks what it is.

    Raises:
        UserError: it cannot be imported.
    """
    module, _, attribute = (POOLINGS[name].path if name in POOLINGS else name).rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"encoder.pooling is {name!r}, which cannot be imported ({error}); expected "
            f"{expected_names()}."
        ) from error


def expected_names() -> str:
    """What a pooling may be named, for messages."""
    return f"{', '.join(POOLINGS)}, or the import path of a class (package.module.Class)"


def gives_sentence_vectors(name: str) -> bool:
    """Whether a pooling gives a vector for each sentence and none of a whole text."""
    return POOLINGS[name].per_sentence if name in POOLINGS else import_pooling(name).per_sentence


def check_recorded(name: str, path: Path | str) -> str:
    """The pooling that a model's file names, if it needs no import that the user did not ask for.

    A model must not have code run by naming it, so the module of a class that is not registered
    must be imported already.

    Raises:
        UserError: the pooling is unknown, or its module is not imported.
    """
    if name in POOLINGS or (is_pooling_name(name) and name.rpartition(".")[0] in sys.modules):
        return name
    raise UserError(
        f"{path}: `pooling` is {name!r}, which is none of {', '.join(POOLINGS)}. No code is "
        "imported because a model names it: if it is the import path of a class of yours, import "
        "its module first, or name the pooling yourself (--pooling; "
        "in fit and show --model.encoder.pooling)."
    )
