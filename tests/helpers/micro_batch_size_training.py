"""Steps that begin with the largest that can be, in one process or in each of several."""

from functools import partial

import torch
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from sciembed_train import distributed
from sciembed_train.methods.engine import micro_batch_size
from sciembed_train.training.callbacks.micro_batch_limit import MicroBatchLimit
from tests.helpers import pair_training
from tests.helpers.pair_training import Pairs

# Tokens of a micro-batch that the pretended device has memory for: fewer on the second rank.
ROOM = (600, 260)


class CrowdedDevice(MicroBatchLimit):
    """Chooses the limit on a device that raises when a micro-batch has too many tokens.

    It notes the tokens of each micro-batch of the dry run (``tried``) and of the steps
    (``largest``), and what the dry run left behind.
    """

    room = ROOM[0]

    def on_train_start(self, trainer, pl_module):
        encoder, self.largest = pl_module.encoder, []
        forward, self.module = encoder.forward, pl_module
        encoder.forward = lambda rows, *more: self.check_room(rows) or forward(rows, *more)
        raising, micro_batch_size.RAISING = micro_batch_size.RAISING, ("cpu",)
        before = torch.get_rng_state()
        try:
            super().on_train_start(trainer, pl_module)
        finally:
            micro_batch_size.RAISING = raising
        same = torch.equal(before, torch.get_rng_state())
        self.left = not same, [p for p in pl_module.parameters() if p.grad is not None]
        self.tried, self.largest, self.room = self.largest, [], 10**9

    def check_room(self, rows):
        if self.module.training:
            self.largest.append(rows.tokens)
        if rows.tokens > self.room:
            raise torch.OutOfMemoryError(f"no room for {rows.tokens} tokens")


class Counted(Pairs):
    """Counts the exchanges of gradients."""

    exchanges = 0

    def on_train_start(self):
        super().on_train_start()
        model = self.trainer.strategy.model
        if isinstance(model, DistributedDataParallel):
            model.register_comm_hook(None, self._exchanged)

    def _exchanged(self, state, bucket):
        type(self).exchanges += 1
        return default_hooks.allreduce_hook(torch.distributed.group.WORLD, bucket)


def train(corpus: str, backbone: str, crowded: bool = False, **settings) -> dict:
    """What `pair_training.train` gives, and what the callback has noted."""
    made: list[CrowdedDevice] = []

    def crowd(data):
        made.append(CrowdedDevice(data.share, quiet=True))
        return made[0]

    run = partial(pair_training.train, corpus, backbone, **settings)
    if not crowded:
        return run()
    found = run(callbacks=[crowd])
    noted = {name: getattr(made[0], name) for name in ("tried", "left", "largest", "chosen")}
    return {**found, **noted}


def counted(corpus: str, backbone: str, **settings) -> dict:
    """What `train` gives, and how often gradients were exchanged."""
    Counted.exchanges = 0
    found = train(corpus, backbone, method=Counted, **settings)
    return {**found, "exchanges": Counted.exchanges}


def on_a_rank(corpus: str, backbone: str) -> dict[str, dict]:
    torch.use_deterministic_algorithms(True)
    CrowdedDevice.room = ROOM[distributed.rank()]
    every = {"negatives": "all", "temperature": 0.5}
    return {
        "crowded": train(corpus, backbone, crowded=True, **every),
        "whole": counted(corpus, backbone, max_tokens_per_backward=None, **every),
        "cut": counted(corpus, backbone, max_tokens_per_backward=150, **every),
    }
