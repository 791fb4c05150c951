"""Whether a checkpoint can be continued from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sciembed_train.encoder.io.load_backbone import DROPOUTS, build_config
from sciembed_train.errors import UserError
from sciembed_train.methods.base import Method
from sciembed_train.optim_settings import OptimSettings, learning_rate
from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.training.run_metadata import weights_sha256


def check_fits(path: Path, method: Method, data: TrainingData, resuming: bool) -> dict[str, Any]:
    """The checkpoint; UserError if another method, backbone or data made it."""
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
    then = content.get("hyper_parameters", {})
    if resuming:
        same_teacher(method.settings().get("teacher"), then.get("teacher"))
    method.match(state)
    own = {key: value.shape for key, value in method.state_dict().items()}
    theirs = {key: value.shape for key, value in state.items()}
    if own != theirs:
        odd = sorted(k for k in own.keys() | theirs.keys() if own.get(k) != theirs.get(k))
        raise UserError(
            f"{path}: its weights are of another model: {odd[0]} is "
            f"{_shape(theirs.get(odd[0]))} there and {_shape(own.get(odd[0]))} here "
            f"({len(odd)} differ). Use the recipe and the backbone it was trained with."
        )
    _same_backbone(path, content["sciembed"], method, resuming)
    if resuming:
        data.load_state_dict(content.get(type(data).__qualname__, {}))
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


# Of a backbone's configuration: what training may set anew, and what does not reach the vectors.
MAY_DIFFER = (*DROPOUTS, "classifier_dropout", "use_cache", "transformers_version")
# Of the entries that every model of transformers has, those that reach the vectors.
GENERAL = ("pad_token_id", "is_decoder")
# Settings of a learning rate beside the length of its schedule.
RATE = ("lr", "schedule", "warmup_steps", "warmup_share", "cut_frac", "ratio")


def _same_backbone(path: Path, record: Mapping[str, Any], method: Method, resuming: bool) -> None:
    """Raise UserError where the backbone has equal shapes and computes something else.

    Such as with other numbers of heads, or another activation. A continued run keeps its base, too:
    methods compare with it, and an export names it.
    """
    then, now = record.get("backbone_config"), method.encoder.backbone_config()
    if isinstance(then, Mapping):
        odd = {key: pair for key, pair in differences(then, now).items() if pair[0] != pair[1]}
        if odd:
            said = ", ".join(f"{key} {a!r} then and {b!r} now" for key, (a, b) in odd.items())
            raise UserError(
                f"{path}: its backbone has the shapes of {method.encoder.settings.backbone} and "
                f"another configuration: {said}. Give the backbone that it was trained from."
            )
    recorded = (record.get("training") or {}).get("base_model_sha256")
    if not resuming or recorded is None:
        return
    digest = weights_sha256(method.encoder.settings.backbone)
    if digest is not None and digest != recorded:
        raise UserError(
            f"{path}: was trained from another backbone than "
            f"{method.encoder.settings.backbone}: the SHA-256 of its weights is {digest[:12]}..., "
            f"and was {recorded[:12]}.... Give the same, or start anew with another --run "
            "(--model.encoder.backbone RUN/export goes on from its weights)."
        )


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Entries of two configurations of backbones that reach the vectors, where both have them.

    Both are read by the installed transformers first, which fills in what another version left out.
    """
    from transformers import PretrainedConfig

    general = set(PretrainedConfig().to_dict()) - set(GENERAL)
    one, other = (
        json.loads(build_config(dict(values), "the configuration").to_json_string(use_diff=False))
        for values in (then, now)
    )
    keys = (one.keys() & other.keys()) - general - set(MAY_DIFFER)
    return {key: (one[key], other[key]) for key in sorted(keys) if not key.startswith("_")}


def schedule_line(content: Mapping[str, Any], now: OptimSettings, total: int) -> str | None:
    """What to say where a continued run's learning rate goes up against its schedule; else None.

    Args:
        content: the checkpoint.
        now: settings of the optimiser.
        total: steps of the run as it is now.
    """
    recorded = (content.get("hyper_parameters") or {}).get("optim")
    planned = (content["sciembed"].get("training") or {}).get("planned_steps")
    made = content["global_step"]
    if not recorded or not planned or not made:
        return None
    then = OptimSettings(**{**recorded, "betas": tuple(recorded["betas"])})
    last, rate = learning_rate(then, made - 1, planned), learning_rate(now, made, total)
    if rate <= max(last, learning_rate(then, made, planned)) * (1 + 1e-9):
        return None
    why = f"the schedule now runs over {total:,} steps, where it ran over {planned:,}"
    keeps = f"; --model.optim.schedule_steps {planned} keeps it, and goes on at its last rate"
    if any(getattr(then, key) != getattr(now, key) for key in RATE):
        why, keeps = "optim was set anew", ""
    return (
        f"warning: continued after step {made:,}, the learning rate goes up from {last:.3g} to "
        f"{rate:.3g}: {why}{keeps}."
    )


# What may change in mid-run: how steps are made and cut, not what is asked of the vectors.
# A teacher may have moved (`same_teacher`).
MAY_CHANGE = ("encoder", "optim", "max_tokens_per_backward", "teacher")


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


def same_teacher(now: Mapping[str, Any] | None, then: Mapping[str, Any] | None) -> None:
    """Raise UserError where a continued run would learn from another teacher, or from none."""

    def said(teacher: Mapping[str, Any] | None) -> str:
        return "no teacher" if teacher is None else f"{teacher['name']} ({teacher['digest']})"

    if (now or {}).get("digest") != (then or {}).get("digest"):
        raise UserError(
            f"This checkpoint was trained with model.teacher={said(then)}; now it is {said(now)}. "
            "A continued run keeps its teacher: set it back, or start anew with another --run "
            "(--model.encoder.backbone RUN/export goes on from its weights)."
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
