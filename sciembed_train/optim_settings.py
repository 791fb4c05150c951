"""Settings of the optimiser, and the learning rate as a function of the step; without torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, inf
from typing import Literal


@dataclass(frozen=True)
class OptimSettings:
    """AdamW, its schedule and the gradient norm it may see.

    Args:
        lr: the highest learning rate of the schedule.
        weight_decay: on matrices; biases and norms are never decayed.
        betas: decay of AdamW's two moments.
        eps: AdamW's small number.
        bias_correction: divide AdamW's moments by ``1 - beta ** t``, Kingma and Ba (2015),
            algorithm 1. Without it, as in BERT's own code and in DeCLUTR's, the first steps are
            longer: with the default betas 3.2 times at the first, 6.6 times at the 12th, and
            1.3 times still at the 1,000th.
        clip_norm: the gradient's norm over all parameters and ranks is cut to this; null for
            no cut.
        schedule: ``linear`` (warm-up, then down to 0), ``slanted_triangular`` (Howard and Ruder
            2018, eq. 3) or ``constant`` (after the warm-up).
        warmup_steps: optimiser steps of warm-up of ``linear`` and ``constant``.
        warmup_share: the same as a share of the run's steps; only one of the two.
        schedule_steps: steps that the schedule runs over; null for those of the run. A run that is
            longer goes on at the schedule's last learning rate.
        cut_frac: share of the steps in which ``slanted_triangular`` rises.
        ratio: highest over lowest learning rate of ``slanted_triangular``.
        layer_decay: each layer of the backbone learns at this times the rate of the layer above
            it, the embeddings slowest (Howard and Ruder 2018, section 3.2; 0.9 forgets less); 1
            gives all the same rate. The pooling and other heads have the whole rate.
        freeze_embeddings: do not train the embeddings of words; those of positions are.
        ema: keep an exponential moving average of the weights with this decay, such as 0.999, and
            validate, choose and export that; null for the weights themselves. Checkpoints grow
            by a third.

    Raises:
        ValueError: a value is out of its range.
    """

    lr: float = 2e-5
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    bias_correction: bool = True
    clip_norm: float | None = 1.0
    schedule: Literal["linear", "slanted_triangular", "constant"] = "linear"
    warmup_steps: int = 0
    warmup_share: float = 0.0
    schedule_steps: int | None = None
    cut_frac: float = 0.1
    ratio: float = 32.0
    layer_decay: float = 1.0
    freeze_embeddings: bool = False
    ema: float | None = None

    def __post_init__(self) -> None:
        def need(holds: bool, key: str, rule: str) -> None:
            if not holds:
                raise ValueError(f"optim.{key} must be {rule}; got {getattr(self, key)}.")

        need(0 < self.lr < inf, "lr", "above 0")
        need(0 <= self.weight_decay < inf, "weight_decay", "0 or more")
        need(all(0 <= b < 1 for b in self.betas), "betas", "two numbers from 0 to below 1")
        need(0 < self.eps < inf, "eps", "above 0")
        need(self.clip_norm is None or 0 < self.clip_norm < inf, "clip_norm", "above 0, or null")
        need(self.warmup_steps >= 0, "warmup_steps", "0 or more")
        need(0 <= self.warmup_share < 1, "warmup_share", "from 0 to below 1")
        steps = self.schedule_steps
        need(steps is None or steps > 0, "schedule_steps", "1 or more, or null")
        need(0 < self.cut_frac < 1, "cut_frac", "between 0 and 1")
        need(0 < self.layer_decay <= 1, "layer_decay", "above 0 and at most 1")
        need(self.ema is None or 0 < self.ema < 1, "ema", "between 0 and 1, or null")
        need(1 <= self.ratio < inf, "ratio", "1 or more")
        if self.warmup_steps and self.warmup_share:
            raise ValueError(
                f"optim.warmup_steps is {self.warmup_steps} and optim.warmup_share is "
                f"{self.warmup_share}; give one of the two."
            )


def learning_rate(settings: OptimSettings, step: int, total: int) -> float:
    """The learning rate of an optimiser step.

    ``linear`` rises as ``lr * (step + 1) / w`` during ``w`` steps of warm-up and then falls as
    ``lr * (total - step) / (total - w)``: no step is made with a learning rate of 0.
    ``slanted_triangular`` rises from ``lr / ratio`` to ``lr`` in the first ``cut_frac`` of the
    steps and falls back to ``lr / ratio``: ULMFiT, Howard and Ruder (2018), eq. 3.

    Args:
        settings: what the schedule is.
        step: the step about to be made, counted from 0.
        total: steps of the whole run.
    """
    if settings.schedule_steps is not None:
        total = settings.schedule_steps
        step = min(step, total - 1)
    if settings.schedule == "slanted_triangular":
        cut = floor(total * settings.cut_frac)
        # After the rise eq. 3 divides by cut * (1 / cut_frac - 1), which is total - cut where
        # nothing is rounded down; elsewhere it would end before the run does.
        part = step / cut if step < cut else 1 - (step - cut) / (total - cut)
        return settings.lr * (1 + part * (settings.ratio - 1)) / settings.ratio
    warmup = settings.warmup_steps or round(settings.warmup_share * total)
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.lr
    return settings.lr * max(0, total - step) / max(1, total - warmup)
