"""An exponential moving average of the trained weights, which is validated, saved and exported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from sciembed_train.methods.base import Method

# Entry of a checkpoint that holds the weights which training goes on from.
TRAINED = "trained_weights"


class WeightAveraging(Callback):
    """Averages the trained weights after each step, where ``optim.ema`` has a decay.

    ``average = decay * average + (1 - decay) * weights``, from the weights at the start on. A
    validation sees the average, so that the best step is the average's. A checkpoint has the
    average as its state, so that `export` and `validate` read it as they do any other, and the
    weights that training goes on from in an entry of their own. Weights are fp32 at every precision
    of a run, and so are their averages.

    Lightning's own ``EMAWeightAveraging`` (2.6) does not fit. It warns at every start that a method
    has ``configure_model``, and calls that outside of the strategy; it copies the whole module,
    with a frozen backbone and the held-out vectors; and its average starts after the first step.
    """

    def __init__(self) -> None:
        self.decay: float | None = None
        self.averages: dict[str, Tensor] = {}
        self._swapped = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the decay of now; averages of a checkpoint are dropped where there is none."""
        self.decay = cast(Method, pl_module).optim.ema
        if self.decay is None:
            self.averages = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the weights of now, unless a checkpoint brought averages."""
        if self.decay is not None:
            for name, parameter in _trained(pl_module):
                average = self.averages.get(name)
                own = parameter.detach().clone() if average is None else average
                self.averages[name] = own.to(parameter.device)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the averages a little towards the weights of now."""
        if self.decay is None:
            return
        with torch.no_grad():
            for name, parameter in _trained(pl_module):
                self.averages[name].lerp_(parameter, 1 - self.decay)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the averages in the place of the weights."""
        self._swap(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the weights back, before a checkpoint is saved."""
        self._swap(pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the averages as the state, and the weights beside them."""
        if not self.averages:
            return
        parameters = dict(_trained(pl_module))
        if self._swapped:  # a user's callback saves in the middle of a validation
            checkpoint[TRAINED] = dict(self.averages)
            return
        weights = {name: parameter.data for name, parameter in parameters.items()}
        try:  # a state names an encoder's parts in its own way, so it is made, not put together
            for name, parameter in parameters.items():
                parameter.data = self.averages[name]
            checkpoint["state_dict"] = trainer.strategy.lightning_module_state_dict()
        finally:
            for name, parameter in parameters.items():
                parameter.data = weights[name]
        checkpoint[TRAINED] = weights

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the averages out of the module, which loaded them, and put the weights there."""
        weights = checkpoint.get(TRAINED)
        if weights is None:
            return
        parameters = dict(pl_module.named_parameters())
        self.averages = {name: parameters[name].detach().clone() for name in weights}
        with torch.no_grad():
            for name, weight in weights.items():
                parameters[name].copy_(weight)

    def _swap(self, module: LightningModule) -> None:
        if not self.averages:
            return
        self._swapped = not self._swapped
        with torch.no_grad():
            for name, parameter in _trained(module):
                weight = parameter.detach().clone()
                parameter.copy_(self.averages[name])
                self.averages[name].copy_(weight)


def _trained(module: LightningModule) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)
