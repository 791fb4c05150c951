"""Which adapters read which part of a micro-batch, and layers that are run with them.

A choice is an argument of every forward, never a state of the model, so that a checkpointed layer
recomputes in the backward what it computed first.

Shapes: ``Q`` tokens of all texts or their first tokens, ``H`` width of a hidden state, ``C`` width
of what a layer's attention gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sciembed_train.encoder.adapters.adapter_settings import library


@dataclass(frozen=True)
class Choice:
    """Which adapter reads which part of a micro-batch whose texts stand format by format.

    Args:
        codes: the adapters, in the order of their texts; a fusion of several by their codes with
            commas between.
        texts: how many texts each reads; may be 0, and its gradient is then zero, not absent.
        tokens: how many tokens these have.
    """

    codes: tuple[str, ...]
    texts: tuple[int, ...]
    tokens: tuple[int, ...]

    def padded(self) -> AbstractContextManager[Any]:
        """A context in which adapters get their rows of a padded micro-batch; a fusion all rows.

        Raises:
            ValueError: there are several parts, and one is read by a fusion.
        """
        return self._among(self.texts)

    def unpadded(
        self,
        end: Callable[[Tensor, Tensor], Tensor],
        context: Float[Tensor, "Q C"],
        residual: Float[Tensor, "Q H"],
        range_starts: bool,
    ) -> Float[Tensor, "Q H"]:
        """The states that a layer's end gives for an unpadded micro-batch's tokens.

        Args:
            end: treats each token by itself; takes attention's output and its input.
            context: attention's output.
            residual: attention's input.
            range_starts: whether these are the texts' first tokens alone.
        """
        sizes = list(self.texts if range_starts else self.tokens)
        if not any("," in code for code in self.codes):
            with self._among(sizes):
                return end(context, residual)
        # The library cannot fuse for only some rows, so the parts are run one by one.
        outputs = []
        for code, *part in zip(
            self.codes, context.split(sizes), residual.split(sizes), strict=True
        ):
            with _setup(code):
                # Its fusion expects a dimension of texts.
                outputs.append(end(*(rows[None] for rows in part))[0])
        return torch.cat(outputs)

    def _among(self, sizes: Sequence[int]) -> AbstractContextManager[Any]:
        adapters = library()
        if len(self.codes) == 1:
            return _setup(*self.codes)
        split = adapters.BatchSplit(*self.codes, batch_sizes=list(sizes))
        return adapters.AdapterSetup(split)


def _setup(code: str) -> AbstractContextManager[Any]:
    """A context in which one adapter, or one fusion, reads all texts."""
    adapters = library()
    fused = code.split(",")
    return adapters.AdapterSetup(adapters.Fuse(*fused) if len(fused) > 1 else code)


def checkpoint_layers(backbone: Any) -> None:
    """Checkpoint the layers of the library's padded forward, with the adapters chosen for it.

    The library's own checkpointing restores all settings of a forward but the chosen adapters.
    """
    from adapters import AdapterSetup
    from adapters.context import ForwardContext

    def again(run: Callable[..., Any], *args: Any, **named: Any) -> Any:
        contexts = [kind.get_context() for kind in (ForwardContext, AdapterSetup)]
        return checkpoint(
            run,
            *args,
            use_reentrant=False,
            context_fn=lambda: (nullcontext(), _All([c for c in contexts if c is not None])),
            **named,
        )

    backbone._set_gradient_checkpointing(enable=True, gradient_checkpointing_func=again)


class _All(ExitStack):
    """Several contexts as one."""

    def __init__(self, contexts: Sequence[AbstractContextManager[Any]]) -> None:
        super().__init__()
        self.contexts = contexts

    def __enter__(self) -> _All:
        for context in self.contexts:
            self.enter_context(context)
        return self
