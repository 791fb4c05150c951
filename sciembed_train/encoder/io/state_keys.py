"""How a state names an encoder's parts, which its attributes need not.

A state holds a pooling's weights by their own names, and what `FormatAdapters` adds below
``adapters``. A frozen backbone is left out of it: the state then is a few megabytes.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

# Attribute of the encoder, and what takes its place in a state.
_NAMES = (("pooling.", ""), ("format_reader.", "adapters."))


def rename_for_state(
    encoder: Any, state: MutableMapping[str, Any], prefix: str, metadata: Any
) -> None:
    """A hook of ``state_dict``: give the keys their names and leave a frozen backbone out."""
    backbone = f"{prefix}backbone."
    entries = dict(state)
    state.clear()
    for key, value in entries.items():
        if key.startswith(backbone):
            if encoder.format_reader.keeps_in_state(key.removeprefix(backbone)):
                state[key] = value
            continue
        for attribute, name in _NAMES:
            if key.startswith(prefix + attribute):
                key = prefix + name + key.removeprefix(prefix + attribute)
        state[key] = value


def rename_from_state(encoder: Any, state: MutableMapping[str, Any], prefix: str, *_: Any) -> None:
    """A hook of ``load_state_dict``: the reverse, with the encoder's own frozen backbone."""
    for (attribute, name), part in zip(
        _NAMES, (encoder.pooling, encoder.format_reader), strict=True
    ):
        for key in part.state_dict():
            if prefix + name + key in state:
                state[prefix + attribute + key] = state.pop(prefix + name + key)
    for key, value in encoder.backbone.state_dict().items():
        if not encoder.format_reader.keeps_in_state(key):
            state[f"{prefix}backbone.{key}"] = value
