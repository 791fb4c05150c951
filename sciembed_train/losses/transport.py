"""Distances between texts, sentence by sentence: best match, attention and optimal transport.

All are distances, smaller when closer. Every text has at least one sentence; the rest of its rows
is padding, which a mask leaves out.

Shapes: ``B`` pairs of texts, ``S`` sentences of the first and ``R`` of the second, padding
included; ``D`` width of a sentence's vector; ``K`` steps of the solver.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sciembed_train.errors import UserError
from sciembed_train.losses.similarity import at_least_fp32


@dataclass(frozen=True)
class TransportSettings:
    """Settings of the optimal transport distance.

    Args:
        temperature: of the softmax that weights each sentence by its nearest partner; 5,000 makes
            the weights equal for distances of usual size. It has no default because the published
            code trains with 5,000 and ranks with 1, and a model's weights do not show which.
        blur: weight of the entropy, in the unit of the distance: how far a sentence's weight is
            spread.
        scaling: factor by which the solver lowers its blur at each step, from the diameter of the
            two texts' sentences down to ``blur``. Closer to 1 takes longer and is more exact.

    Raises:
        UserError: a value is out of its range.
    """

    temperature: float
    blur: float = 0.05
    scaling: float = 0.9

    def __post_init__(self) -> None:
        for key in ("temperature", "blur"):
            if not 0 < (value := getattr(self, key)) < math.inf:
                raise UserError(f"transport.{key} is {value}; expected a number above 0.")
        if not 0 < self.scaling < 1:
            raise UserError(f"transport.scaling is {self.scaling}; expected between 0 and 1.")

    @classmethod
    def from_record(cls, values: Mapping[str, Any], model: str | Path) -> TransportSettings:
        """The settings that a model's ``sciembed.json`` records.

        Raises:
            UserError: they are no numbers of these names, or out of their range.
        """
        try:
            return cls(**{name: float(value) for name, value in values.items()})
        except UserError:
            raise
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{model}: `transport` in its sciembed.json is {values}; expected temperature, "
                "blur and scaling. Export the model again."
            ) from error

    def as_dict(self) -> dict[str, float]:
        """Plain values, for JSON and checkpoints."""
        return asdict(self)


@dataclass(frozen=True)
class Transport:
    """Optimal transport of one text's sentences onto another's.

    Args:
        value: the distance to train with: the dual value, entropy included, with gradient.
        plan: weight moved from each sentence to each other one; 0 at padding. Without gradient.
        cost: ``sum P C``, the distance to rank by. Without gradient.
        marginals: weights of both texts' sentences, each adding up to 1; 0 at padding.
    """

    value: Float[Tensor, " B"]
    plan: Float[Tensor, "B S R"]
    cost: Float[Tensor, " B"]
    marginals: tuple[Float[Tensor, "B S"], Float[Tensor, "B R"]]


def sentence_distances(
    a: Float[Tensor, "B S D"], b: Float[Tensor, "B R D"]
) -> Float[Tensor, "B S R"]:
    """Distance ``|| a_i - b_j ||`` of every sentence of a text to every one of its partner text.

    From the differences themselves, as `similarity.pairwise_euclidean`, in at least fp32. Equal
    rows have distance 0 and gradient 0.
    """
    with torch.autocast(a.device.type, enabled=False):
        return torch.cdist(
            at_least_fp32(a), at_least_fp32(b), compute_mode="donot_use_mm_for_euclid_dist"
        )


def best_match(
    distances: Float[Tensor, "B S R"], a_mask: Bool[Tensor, "B S"], b_mask: Bool[Tensor, "B R"]
) -> tuple[Float[Tensor, " B"], Int[Tensor, " B"], Int[Tensor, " B"]]:
    """The smallest distance of a sentence of each to one of the other, and the two sentences."""
    both = a_mask[:, :, None] & b_mask[:, None, :]
    smallest, index = distances.masked_fill(~both, torch.inf).flatten(1).min(1)
    return smallest, index // distances.shape[2], index % distances.shape[2]


def attention(
    distances: Float[Tensor, "B S R"],
    a_mask: Bool[Tensor, "B S"],
    b_mask: Bool[Tensor, "B R"],
    temperature: float,
) -> Float[Tensor, " B"]:
    """Mean distance over all sentence pairs, with larger weights for closer pairs.

    ``sum_ij softmax_ij(-C_ij / T) C_ij``: attAspire, Mysore et al. (2022).
    """
    both = a_mask[:, :, None] & b_mask[:, None, :]
    shares = (-distances / temperature).masked_fill(~both, -torch.inf).flatten(1).softmax(1)
    return (shares * distances.flatten(1)).sum(1)


def transport(
    a: Float[Tensor, "B S D"],
    b: Float[Tensor, "B R D"],
    a_mask: Bool[Tensor, "B S"],
    b_mask: Bool[Tensor, "B R"],
    settings: TransportSettings,
    more_steps: int = 0,
) -> Transport:
    """Entropic optimal transport between the sentences of each text and of its partner.

    ``max_fg <w, f> + <v, g> - e <w x v, exp((f + g - C) / e) - 1>`` with ``C`` the Euclidean
    distance, ``e`` the blur, and weights ``w = softmax_i(max_j(-C_ij) / T)`` and likewise ``v``:
    otAspire, Mysore et al. (2022), section 3.4. The plan is
    ``P_ij = w_i v_j exp((f_i + g_j - C_ij) / e)``.

    Solved as Feydy (2020), "Geometric data analysis, beyond convolutions", algorithm 3.5, as in
    geomloss's ``SamplesLoss(p=1, debias=False)``: averaged updates of both potentials while the
    blur falls, then one more update that carries the gradient. That gradient is the exact one
    where the potentials have converged. A pair's blur falls from the diameter of its own two texts,
    so that no pair depends on the others of its batch or on padding.

    Args:
        a: sentences of the first texts, padded with any finite numbers.
        b: sentences of the second texts.
        a_mask: which rows of ``a`` are sentences; at least one of each text.
        b_mask: likewise for ``b``.
        settings: temperature, blur and scaling.
        more_steps: further steps at the last blur, for a solution closer to the limit.
    """
    a, b = at_least_fp32(a), at_least_fp32(b)
    with torch.autocast(a.device.type, enabled=False):
        # The potential on `a` passes gradient to `a` alone, and the other to `b` alone: at the
        # solution each is the whole derivative by its own points.
        from_a = sentence_distances(a, b.detach())
        from_b = sentence_distances(a.detach(), b)
        distances = from_a + (from_b - from_b.detach())
        log_a = _log_weights(
            distances.masked_fill(~b_mask[:, None, :], torch.inf), a_mask, 2, settings
        )
        log_b = _log_weights(
            distances.masked_fill(~a_mask[:, :, None], torch.inf), b_mask, 1, settings
        )
        with torch.no_grad():
            blurs, counts = _schedule(_diameters(a, b, a_mask, b_mask), settings, more_steps)
            f, g = _potentials(distances, log_a, log_b, blurs, counts)
            to_a, to_b = log_b + g / settings.blur, log_a + f / settings.blur
        f = _softmin(from_a / settings.blur, to_a[:, None, :], 2) * settings.blur
        g = _softmin(from_b / settings.blur, to_b[:, :, None], 1) * settings.blur
        weights = log_a.exp(), log_b.exp()
        value = (weights[0] * f).sum(1) + (weights[1] * g).sum(1)
        with torch.no_grad():
            gain = (f[:, :, None] + g[:, None, :] - distances) / settings.blur
            plan = (gain + log_a[:, :, None] + log_b[:, None, :]).exp()
            cost = (plan * distances).sum((1, 2))
    return Transport(value, plan, cost, weights)


def _log_weights(
    distances: Float[Tensor, "B S R"],
    mask: Bool[Tensor, "B N"],
    partner_axis: int,
    settings: TransportSettings,
) -> Float[Tensor, "B N"]:
    """Logarithms of the sentences' weights, by the distance of each to its nearest partner."""
    nearest = distances.amin(partner_axis)
    return (-nearest / settings.temperature).masked_fill(~mask, -torch.inf).log_softmax(1)


def _diameters(
    a: Float[Tensor, "B S D"],
    b: Float[Tensor, "B R D"],
    a_mask: Bool[Tensor, "B S"],
    b_mask: Bool[Tensor, "B R"],
) -> Float[Tensor, " B"]:
    """The diagonal of the box around both texts' sentences."""
    points = torch.cat([a, b], 1)
    padding = ~torch.cat([a_mask, b_mask], 1).unsqueeze(2)
    upper = points.masked_fill(padding, -torch.inf).amax(1)
    lower = points.masked_fill(padding, torch.inf).amin(1)
    return torch.linalg.vector_norm(upper - lower, dim=1)


def _schedule(
    diameters: Float[Tensor, " B"], settings: TransportSettings, more_steps: int
) -> tuple[Float[Tensor, "B K"], Int[Tensor, " B"]]:
    """The blur of every step, and the number of steps of each pair.

    The diameter twice, then lower by ``scaling`` at each step while it is above the blur, then
    the blur: geomloss's schedule. Where the diameter is 0 or not finite (a training that
    diverged) the blur takes its place; the value of the latter is not a number.
    """
    usable = (diameters > 0) & diameters.isfinite()
    start = torch.where(usable, diameters, settings.blur).double()
    between = torch.log(settings.blur / start) / math.log(settings.scaling)
    falling = between.ceil().clamp(min=0).long()
    counts = falling + 2 + more_steps
    steps = torch.arange(max(counts.tolist(), default=0), device=diameters.device).double()
    blurs = start[:, None] * settings.scaling ** (steps - 1).clamp(min=0)
    blurs = torch.where(steps <= falling[:, None], blurs, settings.blur)
    return blurs.to(diameters.dtype), counts


def _potentials(
    distances: Float[Tensor, "B S R"],
    log_a: Float[Tensor, "B S"],
    log_b: Float[Tensor, "B R"],
    blurs: Float[Tensor, "B K"],
    counts: Int[Tensor, " B"],
) -> tuple[Float[Tensor, "B S"], Float[Tensor, "B R"]]:
    """The dual potentials after each pair's steps; a pair with fewer keeps its result."""
    log_a, log_b = log_a[:, :, None], log_b[:, None, :]
    blur = blurs[:, :1, None]
    f = blur * _softmin(distances / blur, log_b, 2)[:, :, None]
    g = blur * _softmin(distances / blur, log_a, 1)[:, None, :]
    for step in range(blurs.shape[1]):
        blur = blurs[:, step, None, None]
        scaled = distances / blur
        new_f = blur * _softmin(scaled, log_b + g / blur, 2)[:, :, None]
        new_g = blur * _softmin(scaled, log_a + f / blur, 1)[:, None, :]
        share = 0.5 * (step < counts).to(blur.dtype)[:, None, None]
        f, g = f.lerp(new_f, share), g.lerp(new_g, share)
    return f.squeeze(2), g.squeeze(1)


def _softmin(
    scaled: Float[Tensor, "B S R"], log_weights: Float[Tensor, "B _ _"], axis: int
) -> Float[Tensor, "B N"]:
    """``-log sum exp(log_weights - scaled)`` over an axis."""
    return -torch.logsumexp(log_weights - scaled, axis)
