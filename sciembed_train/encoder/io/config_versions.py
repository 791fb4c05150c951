"""A configuration with the keys of the installed transformers, whichever version wrote it.

In version 5 ModernBERT has ``layer_types`` and ``rope_parameters`` in place of version 4's
``global_attn_every_n_layers``, ``global_rope_theta`` and ``local_rope_theta``; decoders have
``rope_parameters`` in place of ``rope_theta``, ``rope_scaling`` and Gemma's
``rope_local_base_freq``. Version 5 reads both; version 4 ignores the new keys, and would compute
another model without an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sciembed_train.errors import UserError
from sciembed_train.safety.families import FAMILIES

# Kind of attention in version 5: the entry of version 4 that has its theta.
_THETAS = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}


def for_installed(model_type: str, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The entries of a checked configuration, with those that the installed version reads.

    Args:
        model_type: of the configuration.
        values: its other entries.
        where: the file, for messages.

    Raises:
        UserError: the installed version has no keys for it.
    """
    import transformers

    if int(transformers.__version__.split(".")[0]) > 4:
        return dict(values)
    if FAMILIES[model_type].causal:
        return {**values, **_decoder_positions(values.get("rope_parameters"), where)}
    if model_type != "modernbert":
        return dict(values)
    return {
        **values,
        **_every_n_layers(values.get("layer_types"), where),
        **_thetas(values.get("rope_parameters"), where),
        # Version 4 takes flash-attn by default where it is installed, and computes in half
        # precision; where triton is installed, it compiles.
        "attn_implementation": "sdpa",
        "reference_compile": False,
    }


def _every_n_layers(kinds: Any, where: str) -> dict[str, int]:
    if kinds is None:
        return {}
    for every in range(1, len(kinds) + 1):
        turns = [list(_THETAS)[bool(number % every)] for number in range(len(kinds))]
        if turns == list(kinds):
            return {"global_attn_every_n_layers": every}
    raise UserError(
        f"{where}: `layer_types` has full_attention in other layers than each n-th, which "
        "transformers 4 cannot compute. Install transformers 5."
    )


def _thetas(parameters: Any, where: str) -> dict[str, float]:
    thetas: dict[str, float] = {}
    for kind, key in _THETAS.items():
        entries = (parameters or {}).get(kind) or {}
        _refuse_scaling(kind, entries, where)
        if "rope_theta" in entries:
            thetas[key] = entries["rope_theta"]
    return thetas


def _decoder_positions(parameters: Any, where: str) -> dict[str, Any]:
    """The rotary entries of all layers, or of Gemma's two kinds of layers."""
    entries: dict[str, Any] = {}
    global_entries = dict(parameters or {})
    local_entries = global_entries.pop("sliding_attention", None) or {}
    _refuse_scaling("sliding_attention", local_entries, where)
    if "rope_theta" in local_entries:
        entries["rope_local_base_freq"] = local_entries["rope_theta"]
    global_entries = dict(global_entries.pop("full_attention", None) or global_entries)
    if "rope_theta" in global_entries:
        entries["rope_theta"] = global_entries.pop("rope_theta")
    if global_entries.get("rope_type", "default") != "default":
        entries["rope_scaling"] = global_entries
    return entries


def _refuse_scaling(kind: str, own: Mapping[str, Any], where: str) -> None:
    if own.get("rope_type", "default") != "default":
        raise UserError(
            f"{where}: `rope_parameters` has {kind} of type {own['rope_type']!r}, which "
            "transformers 4 does not read. Install transformers 5."
        )
