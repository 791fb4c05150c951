"""What every method shares: the optimiser step, its cuts, validation, and the checkpoint.

A method is a constructor and a loss. Shapes: ``B`` examples, ``D`` width, ``P`` held-out papers.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor

from sciembed_train import distributed
from sciembed_train import optim as optimiser
from sciembed_train.batches import DevTriplets, PaperBatch, TripletBatch
from sciembed_train.encoder.checkpoint import CHECKPOINT_VERSION, describe
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.microbatch import plan_pieces
from sciembed_train.evaluation import metrics
from sciembed_train.optim import OptimSettings
from sciembed_train.similarity import pairwise_euclidean

VALIDATION_SCORES = ("val/loss", "val/mrr", "val/recall@10", "val/map")


@dataclass(frozen=True)
class Loss:
    """A method's answer for some examples.

    Args:
        value: mean over the examples, with gradient.
        active: how many examples have a loss above 0.
    """

    value: Float[Tensor, ""]
    active: Int[Tensor, ""]


class Method(LightningModule):
    """An encoder that is trained; a subclass says by which loss.

    Lightning's automatic step is off: one item of the loader is a whole optimiser step of this
    rank, which may take several backward passes. Each rank takes the mean over its own rows and
    DDP the mean over ranks, so that any number of ranks makes the same step; no factor of the
    world size stands anywhere.

    Args:
        encoder: backbone, pooling, length and input format.
        optim: AdamW, its schedule and clipping.
        step_tokens: most tokens of distinct papers in one backward pass; a rank's share that has
            more is cut by whole examples. A setting of the machine's memory: the gradient is the
            same. Null for no cut.
    """

    def __init__(
        self,
        encoder: EncoderSettings,
        optim: OptimSettings = OptimSettings(),  # noqa: B008 - frozen
        step_tokens: int | None = None,
    ) -> None:
        super().__init__()
        if step_tokens is not None and step_tokens < 1:
            raise ValueError(f"step_tokens must be 1 or more, or null; got {step_tokens}.")
        self.automatic_optimization = False
        self.encoder = Encoder(encoder)
        self.optim, self.step_tokens = optim, step_tokens
        self.training_facts: dict[str, Any] = {}  # for the checkpoint: seed, counts, recipe
        self.shown: dict[str, float] = {}  # for the progress bar
        self.stop_signal = 0  # set by a signal on this rank
        self.stop_agreed = 0  # the same, known to every rank after a step
        self._grad_norm: Tensor | None = None
        self._meter = _Meter()
        self._vectors: list[Tensor] = []
        self._slots: list[Tensor] = []

    # What a method defines.

    def loss(self, batch: Any) -> Loss:
        """The loss of some examples of this rank, mean over them."""
        raise NotImplementedError

    def cut(self, batch: Any, tokens: int | None) -> list[Any]:
        """The batch in pieces of whole examples with at most ``tokens`` tokens each."""
        raise NotImplementedError

    def held_out_loss(
        self,
        anchor: Float[Tensor, "B D"],
        positive: Float[Tensor, "B D"],
        negative: Float[Tensor, "B D"],
    ) -> Float[Tensor, " B"]:
        """The loss of each held-out triplet."""
        raise NotImplementedError

    # The step.

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; its learning rate is set before each step."""
        scaled = str(self.trainer.precision) == "16-mixed"
        return optimiser.build(self.parameters(), self.optim, fused=not scaled)

    def on_train_start(self) -> None:
        """Train with the settings given now, also where a checkpoint has brought its own."""
        optimizer = cast(LightningOptimizer, self.optimizers()).optimizer
        optimiser.set_again(cast(torch.optim.AdamW, optimizer), self.optim)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """One optimiser step.

        With fp16 a step whose gradient overflows changes no weight but counts as made: every
        rank sees the same averaged gradient, so all skip alike, and data, schedule and step
        count stay together. Its ``train/grad_norm`` is inf or nan.

        Raises:
            RuntimeError: the batch is of another step than the optimiser (a defect).
        """
        step = self.global_step
        if batch.step != step:
            raise RuntimeError(f"the loader gave step {batch.step}, the optimiser is at {step}")
        self._meter.start(self._waited())
        torch.manual_seed(_dropout_seed(self.training_facts.get("seed", 0), step))
        optimizer = cast(LightningOptimizer, self.optimizers())
        rate = optimiser.learning_rate(self.optim, step, self.trainer.max_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        value = active = torch.zeros((), device=self.device)
        pieces = self.cut(batch, self.step_tokens)
        for number, piece in enumerate(pieces, start=1):
            share = len(piece) / len(batch)
            with nullcontext() if number == len(pieces) else self._unsynchronised():
                loss = self.loss(piece)
                self.manual_backward(loss.value * share)
            value = value + loss.value.detach() * len(piece)
            active = active + loss.active.detach()
        optimizer.step()
        self._after_step(step, rate, batch, pieces, value, active)

    def _unsynchronised(self) -> AbstractContextManager[None]:
        """Gradients add up on each rank alone; the last piece's backward pass exchanges them."""
        block: Callable[[], AbstractContextManager[None]] | None = getattr(
            self.trainer.strategy, "block_backward_sync", None
        )
        return block() if block else nullcontext()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient of all parameters, after fp16's scale has been taken out."""
        limit = self.optim.clip_norm or float("inf")
        trained = [p for p in self.parameters() if p.grad is not None]
        self._grad_norm = torch.nn.utils.clip_grad_norm_(trained, limit)

    def _after_step(
        self,
        step: int,
        rate: float,
        batch: Any,
        pieces: list[Any],
        value: Tensor,
        active: Tensor,
    ) -> None:
        every: int = cast(Any, self.trainer).log_every_n_steps
        due = (step + 1) % every == 0 or step + 1 in (1, self.trainer.max_steps)
        alone = distributed.world_size() == 1
        self._meter.tokens += batch.rows.tokens
        stop = self.stop_signal  # read once: a signal may come at any time
        if alone and not due:  # nothing to agree on, nothing to show: the device is not waited for
            self.stop_agreed = stop
            return
        here = torch.tensor(
            [len(batch), self._meter.tokens, stop], dtype=_widest(value), device=value.device
        )
        mine = torch.cat([torch.stack([value, active]).to(here.dtype), here])
        sums = distributed.sum_over_ranks(mine)
        loss, live, examples, tokens, signals = sums.tolist()
        # Ranks that were sent different signals still all stop; which code they leave with is
        # then the first rank's.
        self.stop_agreed = stop or (2 if signals == 2 else 15 if signals else 0)
        if not due:
            return
        seconds, share = self._meter.stop(self._waited())
        assert self._grad_norm is not None
        found = {
            "train/loss": loss / examples,
            "train/lr": rate,
            "train/grad_norm": self._grad_norm.item(),
            "train/active_share": live / examples,
            "train/tokens_per_second": tokens / seconds,
            "train/data_time_share": share,
            "train/peak_memory_gb": _peak_memory_gb(self.device),
            "train/useful_token_share": useful_token_share(self.encoder, pieces),
        }
        self.shown = {"loss": found["train/loss"]}
        for logger in self.loggers:
            logger.log_metrics(found, step=step + 1)

    def _waited(self) -> float:
        return getattr(getattr(self.trainer, "datamodule", None), "waited", 0.0)

    # Validation.

    def on_validation_epoch_start(self) -> None:
        """Forget the vectors of the last validation."""
        self._meter.pause()
        self._vectors, self._slots = [], []

    def validation_step(self, batch: PaperBatch, batch_idx: int) -> None:
        """Encode some held-out papers."""
        self._vectors.append(full_precision(self.encoder(batch.rows)))
        self._slots.append(batch.slots)

    def on_validation_epoch_end(self) -> None:
        """Log the loss of the held-out triplets and how their queries rank the held-out papers.

        Every rank receives all vectors and computes the same numbers. Only triplets whose three
        papers were encoded count (Lightning may be told to validate on a part).
        """
        dev: DevTriplets | None = getattr(
            getattr(self.trainer, "datamodule", None), "dev_triplets", None
        )
        none = torch.zeros((0, self.encoder.dim), device=self.device)
        vectors = torch.cat(self._vectors) if self._vectors else none
        slots = torch.cat(self._slots) if self._slots else none.new_zeros(0, dtype=torch.int64)
        self._vectors, self._slots = [], []
        vectors, slots = distributed.gather_ragged(vectors), distributed.gather_ragged(slots)
        if dev is not None and len(dev) and len(slots):
            table = vectors.new_zeros(dev.papers, vectors.shape[1])
            table[slots] = vectors
            there = torch.zeros(dev.papers, dtype=torch.bool, device=table.device)
            there[slots] = True
            scores = held_out_scores(table, there, dev, self.held_out_loss)
            # Every rank has the same vectors; the mean makes them agree to the last bit, so that
            # all of them stop early or save alike.
            mine = vectors.new_tensor(list(scores.values()), dtype=_widest(vectors))
            agreed = distributed.mean_over_ranks(mine)
            for name, score in zip(scores, agreed, strict=True):
                self.log(f"val/{name}", score.float(), logger=False, sync_dist=True)
            found = {f"val/{n}": s for n, s in zip(scores, agreed.tolist(), strict=True)}
            if not self.trainer.sanity_checking:
                for logger in self.loggers:
                    logger.log_metrics(found, step=self.global_step)
        self._meter.resume()

    # The checkpoint.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what export needs: settings, the backbone's config and the tokenizer's files."""
        checkpoint["hyper_parameters"] = self.settings()
        facts, steps = self.training_facts, self.global_step
        if facts.get("steps_per_epoch"):
            facts = {**facts, "epochs": round(steps / facts["steps_per_epoch"], 2)}
        checkpoint["sciembed"] = {
            "version": CHECKPOINT_VERSION,
            "method": type(self).__name__.lower(),
            **describe(self.encoder),
            **{key: facts[key] for key in ("base_model",) if key in facts},
            "training": {**facts, "steps": steps},
        }

    def settings(self) -> dict[str, Any]:
        """The constructor's arguments as plain values."""
        return {
            "encoder": asdict(self.encoder.settings),
            "optim": asdict(self.optim),
            "step_tokens": self.step_tokens,
        }


def held_out_scores(
    vectors: Float[Tensor, "P D"],
    there: Bool[Tensor, " P"],
    dev: DevTriplets,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> dict[str, float]:
    """Loss of held-out triplets, and MRR, recall@10 and MAP of their queries.

    A query ranks every other paper of the pool by Euclidean distance; relevant are the positives
    of its triplets. Of papers equally near, the irrelevant come first, so that an encoder that
    gives every text the same vector scores worst and not best.

    Args:
        vectors: of the pool. One that is nan, as after training diverged, makes the loss nan.
        there: whether each paper was encoded.
        dev: the triplets.
        loss: of each triplet, from three columns of vectors.
    """
    columns = torch.stack([dev.anchor, dev.positive, dev.negative]).to(vectors.device)
    columns = columns[:, there[columns].all(0)]
    if not columns.shape[1]:
        return {}
    losses = [loss(*(vectors[c] for c in part)) for part in columns.split(4096, dim=1)]
    pool = torch.nonzero(there).squeeze(1)
    anchors, positives = columns[0].cpu().numpy(), columns[1].cpu().numpy()
    cited: dict[int, set[int]] = {}
    for anchor, positive in zip(anchors.tolist(), positives.tolist(), strict=True):
        cited.setdefault(anchor, set()).add(positive)
    names = pool.cpu().numpy()
    found: list[list[float]] = []
    for some in torch.tensor(sorted(cited)).split(64):
        distances = pairwise_euclidean(vectors[some.to(vectors.device)], vectors[pool])
        distances = distances.cpu().numpy()
        for query, row in zip(some.tolist(), distances, strict=True):
            others = names != query
            relevant = np.isin(names[others], list(cited[query]))
            hits = relevant[np.lexsort((relevant, row[others]))]
            found.append(
                [
                    float(metrics.reciprocal_rank(hits)),
                    float(metrics.recall_at(hits, 10)),
                    float(metrics.average_precision(hits)),
                ]
            )
    mrr, recall, average = np.mean(found, axis=0).tolist()
    return {
        "loss": torch.cat(losses).to(_widest(vectors)).mean().item(),
        "mrr": mrr,
        "recall@10": recall,
        "map": average,
    }


def full_precision(vectors: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    """The vectors in at least fp32, whatever the encoder ran in: losses are computed there."""
    return vectors.float() if vectors.dtype in (torch.float16, torch.bfloat16) else vectors


def cut_triplets(batch: TripletBatch, tokens: int | None) -> list[TripletBatch]:
    """The batch in consecutive pieces of whole triplets, each paper once in a piece.

    A paper of several pieces is encoded once in each; the sum of the pieces' shares of the
    loss is the loss of the batch.

    Args:
        batch: at least one triplet.
        tokens: most tokens of a piece's distinct papers; a single triplet may have more.
    """
    if tokens is None or batch.rows.tokens <= tokens:
        return [batch]
    lengths = batch.rows.lengths.tolist()
    triplets = torch.stack([batch.anchor, batch.positive, batch.negative], dim=1)
    pieces: list[TripletBatch] = []
    start, held, used = 0, set[int](), 0
    members = [set(row) for row in triplets.tolist()]
    for number, papers in enumerate(members):
        more = sum(lengths[p] for p in papers - held)
        if held and used + more > tokens:
            pieces.append(_piece(batch, triplets[start:number]))
            start, held, used = number, set(), 0
            more = sum(lengths[p] for p in papers)
        held |= papers
        used += more
    return [*pieces, _piece(batch, triplets[start:])]


def _piece(batch: TripletBatch, triplets: Tensor) -> TripletBatch:
    papers, where = torch.unique(triplets, return_inverse=True)
    anchor, positive, negative = (where[:, c].contiguous() for c in range(3))
    return TripletBatch(batch.rows.select(papers), anchor, positive, negative, batch.step)


def useful_token_share(encoder: Encoder, batches: list[Any]) -> float:
    """Share of the slots that the encoder multiplies for these batches that hold a real token."""
    if encoder.packed:
        return 1.0
    tokens, slots = 0, 0
    for batch in batches:
        lengths = batch.rows.lengths.cpu().numpy()
        pieces = plan_pieces(lengths, encoder.piece_tokens, padded=True)
        for start, end in pieces.spans():
            rows = lengths[pieces.order[start:end]]
            tokens, slots = tokens + int(rows.sum()), slots + int(rows.max()) * len(rows)
    return tokens / slots


def _widest(like: Tensor) -> torch.dtype:
    """The widest floating type of the tensor's device: Apple's GPUs have no float64."""
    return torch.float32 if like.device.type == "mps" else torch.float64


def _dropout_seed(seed: int, step: int) -> int:
    """A seed for dropout that is a function of (seed, step, rank) and of nothing else."""
    text = f"{seed} {step} {distributed.rank()}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "little") >> 1


def _peak_memory_gb(device: torch.device) -> float:
    """Most memory held so far: of this device, or resident in this process on CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


class _Meter:
    """Wall time and tokens since the last report; validation does not count."""

    def __init__(self) -> None:
        self.tokens = 0
        self._since: float | None = None
        self._waited = 0.0
        self._paused = 0.0

    def start(self, waited: float) -> None:
        if self._since is None:
            self._since, self._waited = time.perf_counter(), waited

    def stop(self, waited: float) -> tuple[float, float]:
        """Seconds since the last report, and the share of them spent waiting for data."""
        now = time.perf_counter()
        assert self._since is not None
        seconds = max(now - self._since, 1e-9)
        share = (waited - self._waited) / seconds
        self._since, self._waited, self.tokens = now, waited, 0
        return seconds, min(1.0, share)

    def pause(self) -> None:
        self._paused = time.perf_counter()

    def resume(self) -> None:
        if self._since is not None:
            self._since += time.perf_counter() - self._paused
