"""What an unpadded layer does after attention, for each token by itself: plainly, or compiled.

Compiled are the output projection and the feed-forward part, with their dropouts, residuals and
norms, in one function that all layers share: their weights are its inputs, and the number of rows
is left open, so that micro-batches of any size run the same code. The rest of a layer stays plain:
attention depends on where texts begin, and three linear layers have nothing to fuse.

Shapes: ``...`` queries of attention: tokens or texts, ``H`` width of a hidden state, ``AC`` heads
times the width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from sciembed_train.encoder.unpadded.onednn_linear import faster_linear
from sciembed_train.errors import UserError

BACKEND: str | Callable[..., Any] = "inductor"

# Torch's settings, for the whole process. Hooks that are added or removed are noticed. And DDP does
# not split these graphs where its buckets end: they end with each layer.
SETTINGS = {"skip_nnmodule_hook_guards": False, "optimize_ddp": False}

# Gives a layer's states from the layer, attention's output and the residual
# (`UnpaddedFamily.after_attention`).
AfterAttention = Callable[[Any, Tensor, Tensor], Tensor]


def plainly(after_attention: AfterAttention) -> AfterAttention:
    """The same function, with `faster_linear` for its products."""

    def plain(
        layer: Any, context: Float[Tensor, "... AC"], residual: Float[Tensor, "... H"]
    ) -> Float[Tensor, "... H"]:
        with faster_linear(residual.device):
            return after_attention(layer, context, residual)

    return plain


@cache
def compiled_on(kind: str, after_attention: AfterAttention) -> AfterAttention:
    """The function compiled: the same numbers but for rounding, and other dropout masks.

    A process makes it once for each family. Its code is generated at the first call, for forward
    and backward, and again at the first call without gradients.

    Args:
        kind: type of the device.
        after_attention: a family's.

    Raises:
        UserError: this machine cannot compile for it.
    """
    for name, value in SETTINGS.items():
        setattr(torch._dynamo.config, name, value)
    _try(kind)
    run, plain = torch.compile(after_attention, backend=BACKEND), plainly(after_attention)

    def compiled(layer: Any, context: Tensor, residual: Tensor) -> Tensor:
        # A single row would count as a constant, and get code of its own. And a mode that watches
        # every operation (`memory.Watched` on a CPU) would make torch stop compiling for good.
        if residual.shape[0] == 1 or _get_current_dispatch_mode() is not None:
            return plain(layer, context, residual)
        for rows in (context, residual):
            torch._dynamo.mark_dynamic(rows, 0)
        return run(layer, context, residual)

    return compiled


def _double(values: Tensor) -> Tensor:
    return 2 * values


def _try(kind: str) -> None:
    """Compile something small.

    Raises:
        UserError: it cannot be done here.
    """
    try:
        torch.compile(_double, backend=BACKEND)(torch.ones(2, device=kind))
    # A compiler, its headers, a driver: their absence raises no common exception type.
    except Exception as error:
        message = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"encoder.compile is true, but this machine cannot compile for {kind} "
            f"({message[0]}). torch.compile needs a C++ compiler such as g++, on a GPU the package "
            "triton too: install them, or set model.encoder.compile to false."
        ) from error
