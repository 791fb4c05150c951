"""Whether a checkpoint can be gone on with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sciembed_train.errors import UserError
from sciembed_train.methods.base import Method
from sciembed_train.optim_settings import OptimSettings
from sciembed_train.sampling.data_module import TrainingData


def check_fits(path: Path, method: Method, data: TrainingData, resuming: bool) -> dict[str, Any]:
    """The checkpoint; UserError if it was made by another method, or with other data."""
    from sciembed_train.export.checkpoint_file import load_checkpoint

    content = load_checkpoint(path)
    state = content.get("state_dict")
    if not isinstance(state, dict) or "sciembed" not in content:
        raise UserError(f"{path}: is no checkpoint of `train fit`.")
    odd = sorted(name for name, value in state.items() if not isinstance(value, torch.Tensor))
    if odd:
        raise UserError(f"{path}: its weights are damaged: {odd[0]} is no tensor.")
    if resuming:
        check_complete(path, content)
    _same_method(path, content["sciembed"], method)
    own = {key: value.shape for key, value in method.state_dict().items()}
    theirs = {key: value.shape for key, value in state.items()}
    if own != theirs:
        odd = sorted(k for k in own.keys() | theirs.keys() if own.get(k) != theirs.get(k))
        raise UserError(
            f"{path}: its weights are of another model: {odd[0]} is "
            f"{_shape(theirs.get(odd[0]))} there and {_shape(own.get(odd[0]))} here "
            f"({len(odd)} differ). Use the recipe and the backbone it was trained with."
        )
    if resuming:
        data.load_state_dict(content.get(type(data).__qualname__, {}))
        then = content.get("hyper_parameters", {})
        same_loss(method.settings(), then)
        same_groups(method.optim, then.get("optim", {}))
    return content


# What a continued run is restored from, beside the weights.
_RESUMED = (
    *("epoch", "global_step", "loops", "callbacks", "optimizer_states", "lr_schedulers"),
    *("hyper_parameters", "pytorch-lightning_version", TrainingData.__qualname__),
)

_ANOTHER = (
    "its training cannot go on as if it had not stopped. Use another checkpoint of the run, or "
    "begin a new one from its weights with --model.encoder.backbone RUN/export."
)


def check_complete(path: Path, content: Mapping[str, Any]) -> None:
    """Raise UserError unless a checkpoint holds all that a run is continued from.

    Without the optimiser's state AdamW would begin anew in mid-run, and nothing would say so.
    """
    if "optimizer_states" not in content:
        raise UserError(
            f"{path}: holds the weights of a run's export and nothing to train on with. Continue "
            "the run with --ckpt_path last."
        )
    absent = [key for key in _RESUMED if key not in content]
    if absent:
        raise UserError(
            f"{path}: lacks {', '.join(absent)}, without which no run can be continued. Use a "
            "checkpoint that `train fit` wrote, as it wrote it."
        )
    states = content["optimizer_states"]
    whole = isinstance(states, list) and len(states) == 1 and isinstance(states[0], Mapping)
    if not whole or not states[0].get("param_groups"):
        raise UserError(f"{path}: holds no state of the optimiser; {_ANOTHER}")
    if content["global_step"] and not states[0].get("state"):
        raise UserError(f"{path}: holds no moments of AdamW for any parameter; {_ANOTHER}")


def _same_method(path: Path, record: Mapping[str, Any], method: Method) -> None:
    """Raise UserError where a checkpoint is another method's, or its vectors are made otherwise.

    The weights may fit all the same, and the scores would mean nothing.
    """
    encoder = record.get("encoder") or {}
    for what, then, now in (
        ("method", record.get("method"), type(method).__name__.lower()),
        ("pooling", encoder.get("pooling"), method.encoder.settings.pooling),
    ):
        if then is not None and then != now:
            raise UserError(
                f"{path}: was trained by {what} {then}, and the recipe has {what} {now}. Use the "
                "recipe it was trained with: config.yaml of its run."
            )
    lora = method.encoder.settings.lora
    own = None if lora is None else asdict(lora)
    if encoder.get("lora") != own:
        raise UserError(
            f"{path}: was trained with encoder.lora={encoder.get('lora')}; now it is {own}. A "
            "continued run keeps it: set it back, or start anew with another --run "
            "(--model.encoder.backbone RUN/export goes on from its weights)."
        )


# What may change in mid-run: how steps are made and cut, not what is asked of the vectors.
MAY_CHANGE = ("encoder", "optim", "max_tokens_per_backward")


def same_loss(now: Mapping[str, Any], then: Mapping[str, Any]) -> None:
    """Raise UserError where a method's own settings are not those of the run being continued.

    The losses before and after would be of different things, and the best checkpoint is chosen
    among them.
    """
    for key, value in now.items():
        if key not in MAY_CHANGE and key in then and then[key] != value:
            raise UserError(
                f"This checkpoint was trained with model.init_args.{key}={then[key]}; now it is "
                f"{value}. A continued run keeps its loss: set it back, or start anew with another "
                "--run (--model.encoder.backbone RUN/export goes on from its weights)."
            )


def same_groups(now: OptimSettings, then: Mapping[str, Any]) -> None:
    """Raise UserError where AdamW's state is of other groups of parameters than those of now."""
    for key in ("layer_decay", "freeze_embeddings"):
        value, before = getattr(now, key), then.get(key, getattr(OptimSettings(), key))
        if value != before:
            raise UserError(
                f"This checkpoint was trained with optim.{key}={before}; now it is {value}. A "
                "continued run keeps its groups of parameters: set it back, or start anew with "
                "another --run (--model.encoder.backbone RUN/export goes on from its weights)."
            )


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else str(tuple(shape))
