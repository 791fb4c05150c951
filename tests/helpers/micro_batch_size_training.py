"""Steps that begin with the largest that can be, in one process or in each of several."""

import torch
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from sciembed_train import distributed
from sciembed_train.methods.engine import micro_batch_size
from tests.helpers import pair_training
from tests.helpers.pair_training import Pairs

# Tokens of a micro-batch that the pretended device has room for: less on the second rank.
ROOM = (600, 260)


class Crowded(Pairs):
    """On a device that says so when a micro-batch has more tokens than it has room for."""

    room = ROOM[0]

    def on_train_start(self):
        plain, self.largest = self.encoder.forward, []
        self.encoder.forward = lambda rows, *more: self._room(rows) or plain(rows, *more)
        there, micro_batch_size.TELLS = micro_batch_size.TELLS, ("cpu",)
        before = torch.get_rng_state()
        try:
            super().on_train_start()
        finally:
            micro_batch_size.TELLS = there
        same = torch.equal(before, torch.get_rng_state())
        self.left = not same, [p for p in self.parameters() if p.grad is not None]
        self.tried, self.largest, self.room = self.largest, [], 10**9

    def _room(self, rows):
        if self.training:
            self.largest.append(rows.tokens)
        if rows.tokens > self.room:
            raise torch.OutOfMemoryError(f"no room for {rows.tokens} tokens")


class Counted(Pairs):
    """Counts the exchanges of gradients."""

    def on_train_start(self):
        super().on_train_start()
        model = self.trainer.strategy.model
        self.exchanges = 0
        if isinstance(model, DistributedDataParallel):
            model.register_comm_hook(None, self._exchanged)

    def _exchanged(self, state, bucket):
        self.exchanges += 1
        return default_hooks.allreduce_hook(torch.distributed.group.WORLD, bucket)


def train(corpus: str, backbone: str, method, **settings) -> dict:
    """What `pair_training.train` gives, and what the method has noted."""
    made = []

    class Noted(method):
        def __init__(self, *given, **more):
            super().__init__(*given, **more)
            made.append(self)

    found = pair_training.train(corpus, backbone, Noted, **settings)
    noted = ("tried", "left", "largest", "exchanges")
    return {
        **found,
        "micro_batch_size": made[0].micro_batch_size,
        **{name: getattr(made[0], name) for name in noted if hasattr(made[0], name)},
    }


def on_a_rank(corpus: str, backbone: str) -> dict[str, dict]:
    torch.use_deterministic_algorithms(True)
    Crowded.room = ROOM[distributed.rank()]
    every = {"negatives": "all", "temperature": 0.5}
    return {
        "crowded": train(corpus, backbone, Crowded, **every),
        "whole": train(corpus, backbone, Counted, max_tokens_per_backward=None, **every),
        "cut": train(corpus, backbone, Counted, max_tokens_per_backward=150, **every),
    }
