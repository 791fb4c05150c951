"""Prompts: what a model wants before a text, by the role of the text.

Models publish them by name (``prompts`` of sentence-transformers' config). A name stands for a
role: ``query`` for the words of a search; ``document``, ``passage`` or ``corpus`` for what is
searched, and here for every paper; any other for a task, read on request alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from sciembed_train.errors import UserError

Role = Literal["query", "document", "task"]
QUERY = "query"
# In the order in which sentence-transformers' `encode_document` looks for them.
DOCUMENT = ("document", "passage", "corpus")
NONE = "none"  # the name that asks for no prompt


def role_of(name: str) -> Role:
    """The role that the name of a prompt stands for."""
    if name == QUERY:
        return "query"
    return "document" if name in DOCUMENT else "task"


def paper_prompt(prompts: Mapping[str, str], default_name: str | None = None) -> str:
    """The prompt before papers: of `DOCUMENT`, else the model's default; empty without either.

    Args:
        prompts: of a model, by name.
        default_name: of the prompt that the model puts before every text; that of queries is no
            prompt of papers.
    """
    for name in DOCUMENT:
        if name in prompts:
            return prompts[name]
    if default_name is None or role_of(default_name) == "query":
        return ""
    return prompts.get(default_name, "")


def query_prompt(prompts: Mapping[str, str], papers: str) -> str:
    """The prompt before the words of a search: ``query``, else that of papers.

    Args:
        prompts: of a model, by name.
        papers: the prompt before papers.
    """
    return prompts.get(QUERY, papers)


def named_prompt(prompts: Mapping[str, str], name: str, model: str, option: str) -> str:
    """The prompt of a name; empty for `NONE`.

    Args:
        prompts: of a model, by name.
        name: that was asked for.
        model: name of the model, for messages.
        option: that asks, for messages.

    Raises:
        UserError: the model has no prompts, or none of this name.
    """
    if name == NONE:
        return ""
    if name in prompts:
        return prompts[name]
    if not prompts:
        raise UserError(f"{option} is {name!r:.60}, but {model} has no prompts. Leave it out.")
    known = ", ".join((*prompts, NONE))
    raise UserError(
        f"{option} is {name!r:.60}, which {model} does not have; expected one of {known}."
    )
