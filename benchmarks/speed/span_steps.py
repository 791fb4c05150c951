"""DeCLUTR's step on the same spans with and without padding, shared by the benchmarks of it.

A side is an encoder with its optimiser and one of three ways forward: `unpadded` is this project's;
`padded` runs anchors and positives one after the other, each padded to its longest, as the
published code does; `padded_everywhere` also scores the vocabulary at every token of the anchors
before it looks at the masked ones, as the published code does too. Losses, optimiser and clipping
are the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sciembed_train import optim
from sciembed_train.batch import SpanBatch, TokenRows
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.pooling.token_mean import mean_of_rows
from sciembed_train.losses.contrastive import nt_xent
from sciembed_train.losses.masked_lm import masked_lm
from sciembed_train.methods.heldout.heldout_spans import span_vectors

# What configs/declutr_base.yaml says, at its highest rate.
OPTIM = optim.OptimSettings(
    lr=5e-5, eps=1e-6, weight_decay=0.1, bias_correction=False, clip_norm=1.0
)
TEMPERATURE = 0.05

Forward = Callable[[Encoder, SpanBatch], tuple[Tensor, Tensor]]


def unpadded(encoder: Encoder, batch: SpanBatch) -> tuple[Tensor, Tensor]:
    """Vectors of the spans and the summed MLM loss, as `methods.declutr` computes them."""
    if not len(batch.masked):
        return encoder(batch.rows), torch.zeros((), device=encoder.device)
    vectors, states = encoder.with_token_states(batch.rows, batch.masked)
    return vectors, masked_lm(encoder.token_logits(states), batch.labels)


def padded(encoder: Encoder, batch: SpanBatch, everywhere: bool = False) -> tuple[Tensor, Tensor]:
    """The same of two padded forwards."""
    anchors = batch.rows.select(batch.anchor.cpu())
    hidden, mask = _padded_states(encoder, anchors)
    near, near_mask = _padded_states(encoder, batch.rows.select(batch.positive.flatten().cpu()))
    vectors = torch.cat([mean_of_rows(hidden, mask), mean_of_rows(near, near_mask)])
    if not len(batch.masked):
        return vectors, torch.zeros((), device=encoder.device)
    # Anchors are the batch's first rows, so a position in it is one in them.
    ends = torch.cumsum(anchors.lengths, 0)
    row = torch.searchsorted(ends, batch.masked, right=True)
    column = (batch.masked - (ends - anchors.lengths)[row]).to(hidden.device)
    row = row.to(hidden.device)
    if not everywhere:
        return vectors, masked_lm(encoder.token_logits(hidden[row, column]), batch.labels)
    labels = torch.full_like(mask, -100)
    labels[row, column] = batch.labels
    logits = encoder.token_logits(hidden.flatten(0, 1))
    return vectors, F.cross_entropy(logits, labels.flatten(), reduction="sum")


def padded_everywhere(encoder: Encoder, batch: SpanBatch) -> tuple[Tensor, Tensor]:
    """`padded`, with the vocabulary's scores at every token of the anchors."""
    return padded(encoder, batch, everywhere=True)


FORWARDS: dict[str, Forward] = {
    "ours": unpadded,
    "padded": padded,
    "padded, all logits": padded_everywhere,
}


def _padded_states(encoder: Encoder, rows: TokenRows) -> tuple[Tensor, Tensor]:
    slots = torch.arange(int(rows.lengths.max()))
    mask = (slots < rows.lengths.unsqueeze(1)).to(rows.ids.device)
    ids = rows.ids.new_full(mask.shape, encoder.tokenizer.pad_id)
    ids = ids.masked_scatter(mask, rows.ids)
    mask = mask.long()
    return encoder.backbone(input_ids=ids, attention_mask=mask).last_hidden_state, mask


def slots(batch: SpanBatch) -> int:
    """Tokens that the two padded forwards compute."""
    parts = (batch.anchor, batch.positive.flatten())
    return sum(int(batch.rows.lengths[rows].max()) * len(rows) for rows in parts)


class Side:
    """An encoder that is trained one way, on its device.

    Args:
        encoder: with a masked-language-modelling head.
        forward: one of `FORWARDS`.
        precision: ``fp32`` or ``bf16``.
    """

    def __init__(self, encoder: Encoder, forward: Forward, precision: str) -> None:
        self.encoder, self.forward = encoder, forward
        self.autocast = precision == "bf16"
        self.optimizer = optim.build(encoder.parameters(), OPTIM)
        self.losses: list[Tensor] = []

    def step(self, batch: SpanBatch) -> None:
        """One optimiser step."""
        kind = self.encoder.device.type
        optim.set_rate(self.optimizer, OPTIM, OPTIM.lr, len(self.losses))
        self.optimizer.zero_grad()
        with torch.autocast(kind, torch.bfloat16, enabled=self.autocast):
            vectors, mlm = self.forward(self.encoder, batch)
            anchors, positives = span_vectors(vectors, batch)
            loss = nt_xent(anchors, positives, TEMPERATURE).mean()
            loss = loss + mlm / max(1, len(batch.masked))
        loss.backward()
        trained = [p for p in self.encoder.parameters() if p.grad is not None]
        torch.nn.utils.clip_grad_norm_(trained, OPTIM.clip_norm or float("inf"))
        self.optimizer.step()
        self.losses.append(loss.detach())

    def timed(self, batches: Sequence[SpanBatch]) -> float:
        """Seconds of a step for each batch, its way to the device included."""
        device = self.encoder.device
        wait(device)
        start = time.perf_counter()
        for batch in batches:
            self.step(batch.to(device, non_blocking=device.type == "cuda"))
        wait(device)
        return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def loss_difference(sides: dict[str, Side]) -> tuple[float, float]:
    """Largest relative difference of the sides' losses: at the first step, and over all steps."""
    losses = torch.stack([torch.stack(side.losses).double().cpu() for side in sides.values()])
    apart = (losses - losses[0]).abs().amax(0) / losses[0].abs()
    return float(apart[0]), float(apart.max())
