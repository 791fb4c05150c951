"""How processes share a run: DDP with gradients in its buckets, or weights shared out (FSDP2)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, ParallelStrategy
from pytorch_lightning.strategies.strategy import Strategy
from torch.optim import Optimizer

from sciembed_train import distributed

# One whole model per process, or one shared out; others would clip and gather differently.
STRATEGIES = ("auto", "ddp", "fsdp", "ddp_find_unused_parameters_false", "DDPStrategy")

EXCHANGE = timedelta(minutes=30)  # Lightning's own limit of one exchange between ranks


class ShardedStrategy(ModelParallelStrategy):
    """Weights, gradients and AdamW's state shared out among all ranks (``strategy: fsdp``).

    What is shared out, and how, says `methods.engine.sharding`. A checkpoint is one whole file, in
    nothing different from one of DDP: Lightning's own would number AdamW's state in the order of
    the module, which is not that of the optimiser's groups, and could not be continued elsewhere.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False, **kwargs)

    def setup_environment(self) -> None:
        """Join the other processes; all of them share the data, and all the weights."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether Lightning hands the optimiser's state to `load_optimizer_state_dict`."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole weights, on the first rank; every rank must ask."""
        assert self.lightning_module is not None
        return self._kept(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state of the optimiser, on the first rank; every rank must ask."""
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        held = optimizer.state_dict()
        states = {number: self._kept(state) for number, state in held["state"].items()}
        return {**held, "state": states} if self.is_global_zero else {}

    def _kept(self, values: Mapping[str, Any]) -> dict[str, Any]:
        # One after the other, so that a device holds one whole tensor and not the model.
        whole = ((name, distributed.full_tensor(value)) for name, value in values.items())
        return {name: value for name, value in whole if self.is_global_zero}

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """A checkpoint, whole, on every rank."""
        return ParallelStrategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take this rank's part of whole weights."""
        module = self.lightning_module
        assert module is not None
        mine = module.state_dict()
        whole = checkpoint["state_dict"]
        parts = {name: distributed.sharded_like(mine[name], whole[name]) for name in whole}
        module.load_state_dict(parts, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this rank's part of the optimiser's whole state."""
        for optimizer, whole in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            mine = [p for group in optimizer.param_groups for p in group["params"]]
            numbers = [n for group in whole["param_groups"] for n in group["params"]]
            states = {
                number: {
                    name: distributed.sharded_like(parameter, value)
                    for name, value in whole["state"][number].items()
                }
                for number, parameter in zip(numbers, mine, strict=True)
                if number in whole["state"]
            }
            optimizer.load_state_dict(whole | {"state": states})


def chosen(strategy: str | Strategy) -> str | Strategy:
    """The strategy that a setting means."""
    return ShardedStrategy() if strategy == "fsdp" else strategy


def wait_for_ranks(strategy: Strategy, rank_timeout: float | None) -> None:
    """Have exchanges outlast the time after which a rank is taken to hang, and half an hour.

    The watch of the ranks says which one it is; torch's own limit says only that one is.
    """
    if isinstance(strategy, DDPStrategy | ModelParallelStrategy):
        longest = timedelta(seconds=3 * rank_timeout) if rank_timeout else timedelta(days=30)
        strategy._timeout = max(EXCHANGE, longest)


def keep_gradients_in_buckets(strategy: Strategy) -> None:
    """Have DDP's gradients be views of the buffers it sends, which saves one copy of them all.

    It looks for no unused parameters either: every parameter that is trained gets a gradient.
    """
    if isinstance(strategy, DDPStrategy):
        strategy._ddp_kwargs.setdefault("gradient_as_bucket_view", True)
