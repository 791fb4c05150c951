"""Finds the first tensor of a step that is not finite, and keeps the step's texts to inspect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sciembed_train import distributed
from sciembed_train.inference.output_file import write_json
from sciembed_train.methods.base import Method
from sciembed_train.methods.engine import sharding
from sciembed_train.sampling.base import Examples
from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.sampling.plan import StepPlan


def bad_weight(method: Method) -> str | None:
    """The name of the first weight that is not finite on any rank; None where all are."""
    named = [(n, distributed.local_part(p.detach())) for n, p in method.named_parameters()]
    held = [p for _, p in named if p.numel()]
    finite = torch.nn.utils.get_total_norm(held, float("inf")).isfinite()
    name = None
    if not finite:
        name = next(n for n, p in named if not p.isfinite().all())
    if distributed.world_size() == 1:
        return name
    return next((n for n in distributed.of_all_ranks(name) if n is not None), None)


def first_bad_tensor(method: Method, batch: Any, precision: AbstractContextManager[Any]) -> str:
    """The first tensor of a step that is not finite, in words.

    The step's passes are made again with the weights of now, which are those before it, and the
    same dropout; no weight changes, and no gradient is left. Every rank calls it.

    Args:
        method: whose step it was.
        batch: this rank's share of the step, on the host.
        precision: the context of the run's precision.
    """
    if (weight := bad_weight(method)) is not None:
        return f"the weight {weight}, before the step"
    found: list[str] = []
    method.zero_grad()
    with _again(method), precision, _watched(method, found):
        method.passes.seed_dropout(batch.step)
        sums = method.gradients(*method.split_micro_batches(batch, method.micro_batch_tokens))
        found += [f"{name} of the step" for name, part in sums.items() if not part.isfinite().all()]
    for name, parameter in method.named_parameters():
        gradient = parameter.grad
        if gradient is not None and not distributed.local_part(gradient).isfinite().all():
            found.append(f"the gradient of {name}")
            break
    method.zero_grad()
    first = [each[:1] for each in distributed.of_all_ranks(found)]
    for rank, names in enumerate(first):
        if names:
            return names[0] + (f" on rank {rank}" if len(first) > 1 else "")
    return "not among those of the step made again: the norm alone, or it did not come back"


@contextmanager
def _again(method: Method) -> Iterator[None]:
    """Passes that exchange no gradient and that no scale multiplies, in training mode."""
    passes, training = method.passes, method.training
    backward, passes.backward = passes.backward, Tensor.backward
    try:
        method.train()
        with torch.inference_mode(False), torch.enable_grad(), passes.no_sync():
            yield
    finally:
        method.train(training)
        passes.backward = backward


@contextmanager
def _watched(method: Method, found: list[str]) -> Iterator[None]:
    """Notes the first module whose output is not finite."""

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            parts = output if isinstance(output, tuple | list) else [output]
            tensors = [p for p in parts if isinstance(p, Tensor) and p.is_floating_point()]
            if not found and not all(bool(t.isfinite().all()) for t in tensors):
                found.append(f"the output of {name}")

        return hook

    handles = [m.register_forward_hook(watch(n)) for n, m in method.named_modules() if n]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class OneStep(StepPlan):
    """A plan whose only step has these examples, for `Examples.describe`."""

    members: np.ndarray
    world_size: int = 1

    @property
    def examples(self) -> int:  # type: ignore[override]
        """Number of examples."""
        return len(self.members)

    @property
    def batch_size(self) -> int:  # type: ignore[override]
        """All of them."""
        return len(self.members)

    @property
    def steps_per_epoch(self) -> int:
        """One."""
        return 1

    @property
    def left_out(self) -> int:
        """None."""
        return 0

    def indices(self, step: int) -> np.ndarray:
        """The examples."""
        return self.members


def save_texts(path: Path, method: Method, data: TrainingData, step: int, facts: Any) -> int:
    """Write this rank's texts of a step, each once, as JSON; returns their number.

    Each with its words as the encoder reads them, the id of its paper where an example of the
    step names it, and whether its vector is finite. Every rank calls it.

    Args:
        path: the file.
        method: that made the step.
        data: its examples.
        step: counted from 0.
        facts: more entries of the file.
    """
    batch = data.share(step)
    rows = [ids.tolist() for ids in batch.rows.ids.split(batch.rows.lengths.tolist())]
    with torch.no_grad(), sharding.whole(method.encoder):
        vectors = method.encoder.encode_probe(batch.rows.to_device(method.device))
    finite = vectors.isfinite().all(1).tolist()
    decode = method.encoder.tokenizer.hf.decode
    texts = [
        {"text": decode(ids), "tokens": len(ids), "vector_is_finite": bool(good)}
        for ids, good in zip(rows, finite, strict=True)
    ]
    content = dict(facts)
    try:
        sources = _sources(data.examples, data, step)
    except Exception as error:  # the texts are worth more than their names
        content["sources_unknown"] = f"{type(error).__name__}: {error}"
        sources = {}
    for ids, text in zip(rows, texts, strict=True):
        text["source"] = sources.get(tuple(ids))
    write_json(path, {**content, "texts": texts})
    return len(texts)


def _sources(examples: Examples, data: TrainingData, step: int) -> dict[tuple[int, ...], str]:
    """Describes the texts of a step, such as by their papers' ids, keyed by token ids."""
    plan = data.plan(distributed.world_size())
    members = plan.indices(step)[plan.share(distributed.rank())]
    described = examples.describe(data.corpus, OneStep(members), len(members))
    return {
        tuple(map(int, text.ids)): text.source
        for example in described
        for text in example.texts
        if text.source
    }
