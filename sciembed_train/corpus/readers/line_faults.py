"""Descriptions of faults in a text, shared by several readers."""

from __future__ import annotations

import json

CR_ALONE = (
    "its lines end in a carriage return alone (CR), as of old. Save it with the line ends of Unix "
    "(LF) or Windows (CRLF)."
)


def json_problem(error: Exception) -> str:
    """Why a text is not JSON that can be read, without the place."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg.removesuffix(" at")
    if isinstance(error, RecursionError):
        return "lists or objects stand within one another too deeply"
    return "a number has too many digits"
