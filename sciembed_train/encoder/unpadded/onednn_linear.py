"""Linear layers in fp32 on processors where torch's own matrix product is the slower one.

torch multiplies fp32 through Intel's MKL, which takes its AVX-512 kernels on Intel's processors
alone; oneDNN, which torch carries for half precision, takes them wherever they are. On an AMD EPYC
(Zen 5), one thread, ``[4096, 384] x [384, 1536]``: 105 GFLOP/s through MKL and 228 through oneDNN
forward, 102 and 231 to the input, 102 and 167 to the weight.

Shapes: ``...`` any number of axes, ``I`` width in, ``O`` width out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

# Below this many products a call of oneDNN costs more than it saves.
SMALLEST = 4_000_000


def faster_linear(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which fp32 ``F.linear`` goes through oneDNN, if that is faster here.

    The same sums in another order: results differ by fp32's rounding. Under autocast nothing
    changes: half precision goes through oneDNN already.
    """
    if device.type != "cpu" or not onednn_is_faster():
        return nullcontext()
    return _ThroughOneDnn()


@cache
def onednn_is_faster() -> bool:
    """Whether this processor has AVX-512 and MKL does not use it there."""
    built = hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.backends.mkldnn.is_available()
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return built and wide and torch.backends.mkl.is_available() and _vendor() == "AuthenticAMD"


def _vendor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "vendor_id":
                return value.strip()
    return ""


class _ThroughOneDnn(TorchFunctionMode):
    """Replaces ``F.linear`` by `linear` for large fp32 tensors on the processor."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        keywords = kwargs or {}
        if func is F.linear and keywords.keys() <= {"bias"} and _fits(*args, **keywords):
            return linear(*args, **keywords)
        return func(*args, **keywords)


def _fits(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    tensors = [states, weight] if bias is None else [states, weight, bias]
    return (
        all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)
        and states.numel() * weight.shape[0] >= SMALLEST
        and not torch.is_autocast_enabled("cpu")
    )


def linear(
    states: Float[Tensor, "... I"],
    weight: Float[Tensor, "O I"],
    bias: Float[Tensor, " O"] | None = None,
) -> Float[Tensor, "... O"]:
    """``states @ weight.T + bias`` through oneDNN, with its gradients; fp32 on the processor."""
    return _Linear.apply(states, weight, bias)  # pyright: ignore[reportReturnType]


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """``left @ right.T + bias``; neither needs to be contiguous."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """`linear`; saves for the backward what ``F.linear`` saves."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(states, weight)
        return _product(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, ...]:
        states, weight = ctx.saved_tensors
        gradient = gradients[0]
        rows = gradient.reshape(-1, gradient.shape[-1])
        to_states, to_weight, to_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight.T) if to_states else None,
            _product(rows.T, states.reshape(-1, states.shape[-1]).T) if to_weight else None,
            rows.sum(0) if to_bias else None,
        )
