"""A configuration in the words of the installed transformers, whichever version wrote it.

ModernBERT's say in version 5 by ``layer_types`` and ``rope_parameters`` what version 4 calls
``global_attn_every_n_layers``, ``global_rope_theta`` and ``local_rope_theta``; a decoder's say by
``rope_parameters`` what it calls ``rope_theta``, ``rope_scaling`` and in Gemma
``rope_local_base_freq``. Version 5 reads both; version 4 passes over the new words, and would
compute another model without an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sciembed_train.errors import UserError
from sciembed_train.safety.families import FAMILIES

# Kind of attention of version 5: the entry of version 4 that has its angle.
_THETAS = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}


def for_installed(model_type: str, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The entries of a checked configuration, with those that the installed version reads.

    Args:
        model_type: of the configuration.
        values: its other entries.
        where: the file, for messages.

    Raises:
        UserError: the installed version has no words for it.
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
        # Where flash-attn is installed version 4 takes it unasked, and computes in half precision;
        # where triton is, it compiles.
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
        own = (parameters or {}).get(kind) or {}
        _refuse_scaling(kind, own, where)
        if "rope_theta" in own:
            thetas[key] = own["rope_theta"]
    return thetas


def _decoder_positions(parameters: Any, where: str) -> dict[str, Any]:
    """Those of all layers, or of Gemma's two kinds of layers."""
    entries: dict[str, Any] = {}
    own = dict(parameters or {})
    local = own.pop("sliding_attention", None) or {}
    _refuse_scaling("sliding_attention", local, where)
    if "rope_theta" in local:
        entries["rope_local_base_freq"] = local["rope_theta"]
    own = dict(own.pop("full_attention", None) or own)
    if "rope_theta" in own:
        entries["rope_theta"] = own.pop("rope_theta")
    if own.get("rope_type", "default") != "default":
        entries["rope_scaling"] = own
    return entries


def _refuse_scaling(kind: str, own: Mapping[str, Any], where: str) -> None:
    if own.get("rope_type", "default") != "default":
        raise UserError(
            f"{where}: `rope_parameters` has {kind} of type {own['rope_type']!r}, which "
            "transformers 4 does not read. Install transformers 5."
        )
