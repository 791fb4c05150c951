"""The optimiser: AdamW and its parameter groups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import sqrt
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer

from sciembed_train.optim_settings import OptimSettings

# A part of the backbone: its name, what multiplies the learning rate there, and its parameters.
Layer = tuple[str, float, Sequence[nn.Parameter]]


def parameter_groups(
    parameters: Iterable[nn.Parameter],
    weight_decay: float,
    factors: Mapping[nn.Parameter, float] | None = None,
    layers: Sequence[Layer] = (),
) -> list[dict[str, Any]]:
    """Trained parameters, matrices with weight decay and vectors without; each group has a name.

    In a Transformer the parameters of fewer than two axes are exactly the biases and the
    norms' gains; the usual list of names misses those of an unusual backbone.

    Args:
        parameters: of the module.
        weight_decay: of the matrices.
        factors: of the learning rate, for parameters that have one of their own; they are
            scalars of a kind, such as the weights of a mix, and never decayed.
        layers: parts of the backbone with learning rates of their own; the parameters of none of
            them have the whole rate.
    """
    factors = factors or {}
    trained = [p for p in parameters if p.requires_grad]
    common = [p for p in trained if p not in factors]
    groups: list[dict[str, Any]] = []
    for name, factor, members in _in_layers(common, layers):
        own = {} if factor == 1 else {"layer_factor": factor}
        matrices = [p for p in members if p.ndim >= 2]
        vectors = [p for p in members if p.ndim < 2]
        groups += [
            {"params": matrices, "weight_decay": weight_decay, "name": f"{name}matrices", **own},
            {"params": vectors, "weight_decay": 0.0, "name": f"{name}vectors", **own},
        ]
    for factor in sorted(set(factors.values())):
        members = [p for p in trained if factors.get(p) == factor]
        name = f"scalars at {factor:g} times the rate"
        groups.append({"params": members, "weight_decay": 0.0, "factor": factor, "name": name})
    return [group for group in groups if group["params"]]


def _in_layers(parameters: Sequence[nn.Parameter], layers: Sequence[Layer]) -> Iterator[Layer]:
    """The parameters by layer, those of no layer first."""
    place = {p: i for i, (_, _, members) in enumerate(layers) for p in members}
    yield "", 1.0, [p for p in parameters if p not in place]
    for i, (name, factor, _) in enumerate(layers):
        yield f"{name} ", factor, [p for p in parameters if place.get(p) == i]


def build(
    parameters: Iterable[nn.Parameter],
    settings: OptimSettings,
    fused: bool = True,
    factors: Mapping[nn.Parameter, float] | None = None,
    layers: Sequence[Layer] = (),
) -> AdamW:
    """AdamW over the trained parameters; the learning rate of step 0 is not yet set.

    Args:
        parameters: of the module; those without gradient are left out.
        settings: the optimiser's.
        fused: one kernel for all parameters. Must be off with an fp16 gradient scaler: the
            fused kernel unscales inside itself, after the gradient has been clipped.
        factors: as for `parameter_groups`.
        layers: as for `parameter_groups`.

    Raises:
        ValueError: there is nothing to train.
    """
    groups = parameter_groups(parameters, settings.weight_decay, factors, layers)
    if not groups:
        raise ValueError("no parameter of the model is trained")
    return AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=fused)


def set_rate(optimizer: Optimizer, settings: OptimSettings, rate: float, made: int) -> None:
    """Make the optimiser's next step one of this learning rate.

    torch's AdamW always corrects its moments' bias. Without the correction the step is
    ``p -= rate * (m / (sqrt(v) + eps) + weight_decay * p)``; with ``c1 = 1 - beta1 ** t`` and
    ``c2 = 1 - beta2 ** t`` torch makes exactly this step when it is given ``rate * c1 / sqrt(c2)``,
    ``eps / sqrt(c2)`` and ``weight_decay * sqrt(c2) / c1``. (The old AdamW of transformers, with
    which DeCLUTR was trained, decays what the step has already moved, and torch what it has not:
    a difference of ``rate ** 2 * weight_decay`` times a step.)

    Args:
        optimizer: made by `build`.
        settings: the same as there.
        rate: of this step, from `learning_rate`.
        made: steps made before this one over the whole run. A step that fp16 has skipped counts
            here but not in the optimiser; only the first few steps could tell.
    """
    t = made + 1
    c1, c2 = (1 - beta**t for beta in settings.betas)
    scale = 1.0 if settings.bias_correction else c1 / sqrt(c2)
    eps = settings.eps if settings.bias_correction else settings.eps / sqrt(c2)
    for group in optimizer.param_groups:
        decay = _weight_decay(group, settings)
        factor = group.get("factor", 1.0) * group.get("layer_factor", 1.0)
        group.update(lr=rate * scale * factor, eps=eps, weight_decay=decay / scale)


def set_again(optimizer: Optimizer, settings: OptimSettings) -> None:
    """Put the settings into an optimiser whose state, with the settings of then, was loaded."""
    for group in optimizer.param_groups:
        decay = _weight_decay(group, settings)
        group.update(betas=settings.betas, eps=settings.eps, weight_decay=decay)


def _weight_decay(group: dict[str, Any], settings: OptimSettings) -> float:
    decays = "factor" not in group and any(p.ndim >= 2 for p in group["params"])
    return settings.weight_decay if decays else 0.0
