"""Gradient caching against one graph over all micro-batches, with dropout on."""

import pytest
import torch

from sciembed_train.batch import (
    LabelPart,
    PairBatch,
    SentencePairBatch,
    Sentences,
    SpanBatch,
    TaskBatch,
    TaskKind,
    TokenRows,
    TripletPart,
)
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.methods.aspire import Cocite
from sciembed_train.methods.aspire_sentences import Objectives, SentenceCocite
from sciembed_train.methods.declutr import Declutr
from sciembed_train.methods.engine.gradient_cache import GradientCache
from sciembed_train.methods.specter2 import MultiTask
from sciembed_train.methods.task_heads import TaskHeads

LENGTH = 12
KINDS = (TaskKind("near", "triplet"), TaskKind("field", "class", 2, contrastive=True))
CASES = ("margin", "local", "cross-entropy", "spans", "sentences", "tasks")


def column(*values):
    return torch.tensor(values)


def rows(count):
    """Texts of unlike tokens: 29 ids in turn."""
    ids = torch.randint(5, 20, (29,), generator=torch.Generator().manual_seed(0))
    return TokenRows(ids.repeat(count), torch.full((count,), 29))


def made(case, backbone, **settings):
    """A method of float64, and a batch of its kind."""
    pooling = {"spans": "mean", "sentences": "sentences"}.get(case, "cls")
    encoder = EncoderSettings(
        str(backbone), pooling=pooling, max_length=64, dropout=0.3, **settings
    )
    torch.manual_seed(0)
    pair = rows(2), column(0), column(1), column(0)
    if case == "spans":
        batch = SpanBatch(rows(3), column(0), column([1, 2]), column(1, 3), column(7, 8), 1, 0)
        method, size = Declutr(encoder), 3
    elif case == "sentences":
        two = Sentences(column(0, 3, 0, 4), column(3, 2, 4, 2), column(2, 2))
        none = torch.zeros(1, 2, dtype=torch.int64)
        batch = SentencePairBatch(pair[0], two, *pair[1:], column(2), none, none, 2, 0)
        method, size = SentenceCocite(encoder, Objectives(best_match=1.0, attention=1.0)), 5
    elif case == "tasks":
        parts = (
            TripletPart("near", column(0), column(1), column(2)),
            LabelPart("field", column(0, 1, 2), column(0, 1, 0)),
        )
        batch = TaskBatch(rows(3), column(1, 1, 1), parts, 0)
        method, size = MultiTask(encoder, negatives="all"), 12
        method.tasks = KINDS
        method.heads = TaskHeads(KINDS, method.encoder.dim, 0.2)
    else:
        negatives = "local" if case == "local" else "all"
        temperature = 0.5 if case == "cross-entropy" else None
        batch = PairBatch(*pair, column([0, 0]), 0)
        method, size = Cocite(encoder, negatives=negatives, temperature=temperature), 5
    return method.double(), batch.largest(size, LENGTH)


def one_graph(cache, batch, micro_batches):
    """What `GradientCache.gradients` gives, by the definition."""
    total, columns = torch.zeros(()), []
    for number, micro_batch in enumerate(micro_batches):
        cache.passes.seed_dropout(batch.step, number)
        embeddings = cache.encode(micro_batch)
        total = total + embeddings.local_loss
        if cache.compared(micro_batch):
            columns.append(embeddings.vectors)
    total = total + cache.loss(*(torch.cat(same) for same in zip(*columns, strict=True))).value
    cache.passes.backward(total)
    return {"loss": total.detach() * len(batch)}


def both(method, batch, monkeypatch):
    """Loss and gradients, cached and by one graph."""
    micro_batches = method.split(batch, 6 * LENGTH)
    assert len(micro_batches) >= 2
    found = []
    for gradients_of in (GradientCache.gradients, one_graph):
        monkeypatch.setattr(GradientCache, "gradients", gradients_of)
        method.zero_grad()
        loss = method.gradients(batch, micro_batches)["loss"] / len(batch)
        trained = [p for p in method.parameters() if p.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        found.append((loss, torch.cat([g.flatten() for g in gradients])))
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_gradient_is_that_of_one_graph(case, checkpointing, tiny_bert, monkeypatch):
    method, batch = made(case, tiny_bert, gradient_checkpointing=checkpointing)
    (loss, gradient), (plain, plainly) = both(method, batch, monkeypatch)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-12)
    assert plainly.abs().max() > 1e-4
    assert (gradient - plainly).abs().max() < 1e-10 * plainly.abs().max()


@pytest.mark.parametrize("case", CASES)
def test_in_bf16_it_is_as_near_as_sums_in_another_order(case, tiny_bert, monkeypatch):
    method, batch = made(case, tiny_bert)
    method.float()
    with torch.autocast("cpu", torch.bfloat16):
        (loss, gradient), (plain, plainly) = both(method, batch, monkeypatch)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    assert (gradient - plainly).norm() < 0.01 * plainly.norm()
