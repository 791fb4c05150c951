"""A step plans on the host and never reads the device.

The `meta` device has shapes and no numbers: whatever reads one there raises, as does whatever has
a shape that depends on numbers. Beside that every way to the device that a CUDA host would wait on
is refused.
"""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sciembed_train import optim
from sciembed_train.batch import ContrastBatch, SpanBatch, TokenRows, TripletBatch
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.losses import row_chunks
from sciembed_train.losses.transport import TransportSettings
from sciembed_train.methods.aspire import Cocite
from sciembed_train.methods.aspire_sentences import Objectives, SentenceCocite
from sciembed_train.methods.citation_contrast import CitationContrast
from sciembed_train.methods.declutr import Declutr
from sciembed_train.methods.distillation import Distillation
from sciembed_train.methods.specter import Specter
from sciembed_train.optim_settings import OptimSettings
from tests.helpers.method_batches import (
    pair_batch,
    sentence_pair_batch,
    task_batch,
    task_method,
)
from tests.helpers.teachers import RandomTeacher

META = torch.device("meta")


class NoWaiting(TorchDispatchMode):
    """Refuses copies to the device that wait, and index arrays that are on the host."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default:
            arrives = torch.device(kwargs.get("device") or args[0].device) == META
            if arrives and args[0].device.type == "cpu" and not kwargs.get("non_blocking"):
                raise AssertionError("a copy to the device that the host waits for")
        if func in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default):
            for index in args[1]:
                if index is not None and args[0].device == META and index.device != META:
                    raise AssertionError("an index array is not on the device")
        return func(*args, **kwargs)


@pytest.fixture
def unread(monkeypatch):
    """A mode in which nothing may be read from `meta`."""
    plain = torch.tensor

    def tensor(*given, device=None, **named):
        assert device is None or torch.device(device) != META, "torch.tensor waits for its copy"
        return plain(*given, device=device, **named)

    monkeypatch.setattr(torch, "tensor", tensor)
    # There is no autocast for `meta`.
    monkeypatch.setattr(torch, "autocast", lambda *given, **named: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *given: False)
    return NoWaiting()


def encoder_settings(backbone, **changed):
    return EncoderSettings(str(backbone), max_length=16, dropout=0.1, **changed)


def triplets():
    rows = TokenRows.from_lists([[2, 9, 3], [2, 8, 7, 3], [2, 3], [2, 6, 3]])
    index = torch.tensor([0, 1])
    return TripletBatch(rows, index, index + 1, index + 2, 0)


def spans():
    rows = TokenRows.from_lists([[2, 9, 3], [2, 8, 7, 3], [2, 5, 3], [2, 6, 3]])
    masked = torch.tensor([1, 4, 5])
    near = torch.tensor([[2], [3]])
    return SpanBatch(rows, torch.arange(2), near, masked, torch.tensor([7, 8, 9]), 2, 0)


def cocite(backbone, **settings):
    pooling = "mix" if settings.get("negatives") == "one" else "cls"
    return Cocite(encoder_settings(backbone, pooling=pooling), **settings)


def sentences(backbone, **settings):
    return SentenceCocite(encoder_settings(backbone, pooling="sentences"), **settings)


def tasks(backbone, **settings):
    module = task_method(str(backbone), **settings)
    return module.float()


def citation_pairs():
    rows = TokenRows.from_lists([[2, 9, 3], [2, 8, 7, 3], [2, 5, 3], [2, 6, 3], [2, 4, 3]])
    anchor = torch.arange(2)
    return ContrastBatch(
        rows,
        torch.tensor([1, 12, 2, 5, 3]),
        anchor,
        anchor + 2,
        torch.tensor([[4], [3]]),
        torch.zeros(2, dtype=torch.int64),
        torch.tensor([0]),
        torch.tensor([[0, 1]]),
        torch.tensor([[1, 0]]),
        0,
    )


def taught(backbone, **distil):
    encoder = encoder_settings(backbone, pooling="mean")
    module = CitationContrast(encoder, teacher="random", distil=Distillation(**distil))
    module.learn_from(RandomTeacher(20, 10))
    return module


METHODS = {
    "SPECTER": (lambda b: Specter(encoder_settings(b)), triplets),
    "SPECTER, mean": (lambda b: Specter(encoder_settings(b, pooling="mean")), triplets),
    "SPECTER, padded rows": (
        lambda b: Specter(encoder_settings(b, max_tokens_per_forward=4)),
        triplets,
    ),
    "DeCLUTR": (lambda b: Declutr(encoder_settings(b, pooling="mean")), spans),
    "Aspire, one, mix": (lambda b: cocite(b, negatives="one"), pair_batch),
    "Aspire, all": (lambda b: cocite(b, negatives="all"), pair_batch),
    "Aspire, local": (
        lambda b: cocite(b, negatives="local", temperature=0.3),
        pair_batch,
    ),
    "tsAspire": (
        lambda b: sentences(b, objectives=Objectives(aligned=1.0, best_match=1.0, attention=1.0)),
        sentence_pair_batch,
    ),
    "citation contrast": (
        lambda b: CitationContrast(encoder_settings(b, pooling="mean")),
        citation_pairs,
    ),
    "citation contrast, ranking": (lambda b: taught(b, form="ranking"), citation_pairs),
    "citation contrast, cosine": (lambda b: taught(b, form="cosine"), citation_pairs),
    "tasks, control codes": (lambda b: tasks(b), task_batch),
    "tasks, all negatives": (lambda b: tasks(b, negatives="all"), task_batch),
}


def step(module, batch, tokens, mode):
    """A whole step as `Method.training_step` makes it, without Lightning."""
    optimizer = optim.build(module.parameters(), OptimSettings(lr=1e-3), False, {})
    with mode:
        micro_batches = [
            micro_batch.to(META, non_blocking=True) for micro_batch in module.split(batch, tokens)
        ]
        batch = micro_batches[0] if len(micro_batches) == 1 else batch.to(META, non_blocking=True)
        sums = module.gradients(batch, micro_batches)
        module.on_before_optimizer_step(optimizer)
        module.finite_steps.leaves_out(1, sums["loss"], module._grad_norm)
        optimizer.step()
    return len(micro_batches)


@pytest.mark.parametrize("tokens", [None, 8], ids=["whole", "cut"])
@pytest.mark.parametrize("name", METHODS)
def test_a_step_never_reads_the_device(name, tokens, tiny_bert, unread):
    make, batch = METHODS[name]
    module = make(tiny_bert).to(META)
    made = step(module, batch(), tokens, unread)
    assert (made > 1) == (tokens is not None)
    assert any(p.grad is not None for p in module.parameters())


@pytest.mark.parametrize("name", ["Aspire, all", "Aspire, local", "tasks, all negatives"])
def test_a_loss_of_one_row_at_a_time_reads_nothing_either(name, tiny_bert, unread, monkeypatch):
    monkeypatch.setattr(row_chunks, "MAX_SCORES", 1)
    make, batch = METHODS[name]
    module = make(tiny_bert).to(META)
    step(module, batch(), None, unread)
    assert any(p.grad is not None for p in module.parameters())


def test_transport_alone_reads_how_many_steps_its_solver_makes(tiny_bert, unread):
    settings = {"objectives": Objectives(transport=1.0), "transport": TransportSettings(5000.0)}
    module = sentences(tiny_bert, **settings).to(META)
    with pytest.raises(NotImplementedError, match="meta tensor") as told:
        step(module, sentence_pair_batch(), None, unread)
    assert "_schedule" in {entry.name for entry in told.traceback}


@pytest.mark.parametrize("fault", ["lengths", "index", "copy"])
def test_what_waits_is_noticed(fault, tiny_bert, unread):
    module, batch = Specter(encoder_settings(tiny_bert)).to(META), triplets()
    plain = module.loss
    if fault == "index":
        module.loss = lambda micro_batch: plain(replace(micro_batch, anchor=torch.tensor([0, 1])))
    elif fault == "copy":
        module.loss = lambda micro_batch: (torch.ones(2).to(META), plain(micro_batch))[1]
    else:
        module.loss = lambda micro_batch: (micro_batch.anchor.max().item(), plain(micro_batch))[1]
    with pytest.raises((AssertionError, RuntimeError)):
        step(module, batch, None, unread)


@pytest.mark.gpu
@pytest.mark.parametrize("name", METHODS)
def test_on_a_gpu_a_step_waits_for_nothing(name, tiny_bert):
    if not torch.cuda.is_available():
        pytest.skip("torch.cuda.set_sync_debug_mode needs a CUDA device")
    make, batch = METHODS[name]
    device = torch.device("cuda")
    module = make(tiny_bert).to(device)
    optimizer = optim.build(module.parameters(), OptimSettings(lr=1e-3), True, {})
    for mode in ("default", "error"):  # the first step also makes the kernels' workspaces
        torch.cuda.set_sync_debug_mode(mode)
        try:
            with torch.autocast("cuda", torch.bfloat16):
                micro_batches = [
                    micro_batch.to_device(device) for micro_batch in module.split(batch(), None)
                ]
                module.gradients(micro_batches[0], micro_batches)
            module.on_before_optimizer_step(optimizer)
            optimizer.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
