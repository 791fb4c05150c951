"""Attention within each text, over texts that stand end to end, in four implementations.

All give the same numbers but for rounding. Which one is quickest depends on the device, on the
type of the numbers and on whether attention weights are dropped: `preferred` says which is taken
unless a recipe names one.

Shapes: ``T`` tokens of all texts, ``U`` texts, ``Q`` queries: tokens or texts, ``A`` heads, ``C``
width of a head, ``AC`` their product, ``GC`` the same of keys and values, of which several heads
may share one, ``L`` tokens of a text.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from sciembed_train.encoder.unpadded.layout import Layout
from sciembed_train.errors import UserError

HALF = (torch.bfloat16, torch.float16)
# Texts of up to this many one-sided windows take one mask instead of blocks.
SHORT = 3


def attend(
    query: Float[Tensor, "Q AC"],
    key: Float[Tensor, "T GC"],
    value: Float[Tensor, "T GC"],
    layout: Layout,
    heads: int,
    dropout: float,
    name: str = "auto",
    again: bool = False,
    window: int | None = None,
    causal: bool = False,
) -> Float[Tensor, "Q AC"]:
    """Attention of each text to itself.

    Args:
        query: one row for each token, or one row for each text: its first token's, or if
            ``causal`` its last one's.
        key: one row for each token.
        value: one row for each token.
        layout: of the texts.
        heads: attention heads, ``A``.
        dropout: share of attention weights dropped; 0 outside training.
        name: one of `NAMES`.
        again: whether it is computed again in the backward pass (gradient checkpointing).
        window: how many tokens to either side a token attends to; None for its whole text.
        causal: whether a token attends to no later ones.

    Raises:
        UserError: the named way does not run here.
    """
    dtype, width = query.dtype, query.shape[1] // heads
    kind = query.device.type
    if name == "auto":
        name = preferred(kind, dtype, dropout, width)
    else:
        check(name, kind, dtype, dropout, width)
    if window is not None and layout.longest <= window + 1:
        window = None  # none is further away
    if window is not None and query.shape[0] != key.shape[0]:
        # A first token sees all of its text's first tokens; a last one all of the last.
        layout, ends = layout.end_tokens(window + 1, last=causal)
        key, value, window = key.index_select(0, ends), value.index_select(0, ends), None
    if query.shape[0] != key.shape[0]:
        causal = False  # none follows the last token
    if (window is not None or (causal and name == "varlen")) and not knows_windows(name):
        name = "padded"
    unordered = causal and kind == "cpu"
    if name == "nested" and (again or unordered or torch.is_inference_mode_enabled()):
        # torch 2.13 makes no nested tensor in inference mode ("Cannot set version_counter for
        # inference tensor"), takes a recomputed one for another shape in the backward pass, and
        # has no causal attention to them on a CPU.
        name = "padded"
    if kind == "cpu" and dtype in HALF:
        # torch 2.13's half-precision kernel is the slower one on CPUs: at 230 tokens and 12 heads
        # of 32, forward and backward took 8.5 ms in bf16 and 5.4 ms in fp32, casts included.
        query, key, value = query.float(), key.float(), value.float()
    q, k, v = (rows.view(-1, rows.shape[1] // width, width) for rows in (query, key, value))
    heads_per_key = heads // k.shape[1]
    if heads_per_key > 1:  # not every kernel takes fewer heads of keys than of queries
        k, v = (rows.repeat_interleave(heads_per_key, 1) for rows in (k, v))
    # Autocast has done its part in the linear layers; here it would lower CPU tensors again.
    with torch.autocast(kind, enabled=False):
        out = WAYS[name](q, k, v, layout, dropout, window, causal)
    return out.flatten(1).to(dtype)


def _by_text(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    dropout: float,
    window: int | None,
    causal: bool,
) -> Float[Tensor, "Q A C"]:
    """One call for each run of texts of equal length, without any padding."""
    keys = [count * length for count, length in layout.equal_lengths]
    alone = query.shape[0] != key.shape[0]
    queries = [count for count, _ in layout.equal_lengths] if alone else keys

    def rows(tensor: Tensor, sizes: list[int]) -> list[Tensor]:
        return [
            part.view(count, -1, *part.shape[1:]).transpose(1, 2)
            for part, (count, _) in zip(tensor.split(sizes), layout.equal_lengths, strict=True)
        ]

    return torch.cat(
        [
            _within(q, k, v, dropout, window, causal).transpose(1, 2).flatten(0, 1)
            for q, k, v in zip(
                rows(query, queries), rows(key, keys), rows(value, keys), strict=True
            )
        ]
    )


def _within(
    q: Float[Tensor, "U A Q C"],
    k: Float[Tensor, "U A L C"],
    v: Float[Tensor, "U A L C"],
    dropout: float,
    window: int | None,
    causal: bool,
) -> Float[Tensor, "U A Q C"]:
    """Attention in texts of one length ``L``, to all of a text or within a window.

    Long texts are computed a block of queries at a time, with the keys that any of them sees.
    On an AMD EPYC (Zen 2), one thread, torch 2.13, two texts and 12 heads of 64, fp32, window 64,
    forward and backward took at 192, 256, 384 and 512 tokens 21.5, 31.0, 52.7 and 76.3 ms in blocks
    of 128, 19.3, 34.4, 75.8 and 135.8 with one mask, and 18.6, 34.2, 73.4 and 128.4 without a
    window; blocks of 64, 192 and 256 took 75.9, 77.7 and 88.0 at 512.
    """
    length = k.shape[2]
    if window is None or length <= window + 1:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal)
    block = length if length <= SHORT * window else max(1, 2 * window)
    outputs = []
    for start in range(0, length, block):
        end = min(length, start + block)
        first, last = max(0, start - window), end if causal else min(length, end + window)
        mask = _band(range(start, end), range(first, last), window, causal, q.device)
        part = q[:, :, start:end], k[:, :, first:last], v[:, :, first:last]
        outputs.append(F.scaled_dot_product_attention(*part, attn_mask=mask, dropout_p=dropout))
    return torch.cat(outputs, 2)


def _band(
    queries: range, keys: range, window: int, causal: bool, device: torch.device
) -> Bool[Tensor, "Q L"]:
    """Which of the keys each query sees, both by their positions in a text."""
    query_positions, key_positions = (
        torch.arange(r.start, r.stop, device=device) for r in (queries, keys)
    )
    distances = query_positions.unsqueeze(1) - key_positions
    return (distances <= window) & (distances >= (0 if causal else -window))


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    dropout: float,
    window: int | None,
    causal: bool,
) -> Float[Tensor, "Q A C"]:
    """One call of the kernel that takes texts end to end; it has no dropout."""
    from torch.nn.attention import varlen

    bounds, alone = layout.bounds32
    if query.shape[0] != key.shape[0]:
        return _tensor(varlen.varlen_attn(query, key, value, alone, bounds, 1, layout.longest))
    bounds_and_longest = bounds, bounds, layout.longest, layout.longest
    if window is None and not causal:
        return _tensor(varlen.varlen_attn(query, key, value, *bounds_and_longest))
    reach = -1 if window is None else window  # -1: to all on this side
    sides = reach, 0 if causal else reach
    return _tensor(varlen.varlen_attn(query, key, value, *bounds_and_longest, window_size=sides))


def _nested(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    dropout: float,
    window: int | None,
    causal: bool,
) -> Float[Tensor, "Q A C"]:
    """One call on nested tensors, which torch hands to a kernel for texts end to end."""
    from torch.nested import nested_tensor_from_jagged

    most, least = layout.longest, min(layout.sizes)
    alone = query.shape[0] != key.shape[0]
    query_bounds = layout.bounds32[1].long() if alone else layout.bounds

    # With the longest and shortest passed, torch does not read them from the device.
    def jagged(rows: Tensor, bounds: Tensor, most: int, least: int) -> Any:
        # No kernel takes rows that are not contiguous.
        rows = rows.contiguous()
        nested = nested_tensor_from_jagged(rows, bounds, min_seqlen=least, max_seqlen=most)
        return nested.transpose(1, 2)

    out = F.scaled_dot_product_attention(
        jagged(query, query_bounds, *((1, 1) if alone else (most, least))),
        jagged(key, layout.bounds, most, least),
        jagged(value, layout.bounds, most, least),
        dropout_p=dropout,
        is_causal=causal,
    )
    return _tensor(out.transpose(1, 2).values())


def _padded(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    dropout: float,
    window: int | None,
    causal: bool,
) -> Float[Tensor, "Q A C"]:
    """One call for each group of texts of similar length, padded to its longest and masked.

    Rows are filled from the left, so that no token of a causal text stands behind a free slot.
    """
    alone = query.shape[0] != key.shape[0]
    tokens = [len(group.slots) for group in layout.groups]
    queries = query.split([group.texts for group in layout.groups] if alone else tokens)
    outputs = []
    for group, q, k, v in zip(
        layout.groups, queries, key.split(tokens), value.split(tokens), strict=True
    ):
        shape = (group.texts, group.longest, *key.shape[1:])
        slots = shape[0] * shape[1]

        def rows(part: Tensor, at: Tensor = group.slots, slots: int = slots) -> Tensor:
            return part.new_zeros(slots, *part.shape[1:]).index_copy(0, at, part)

        mask = None
        if group.ragged and not causal:
            filled = torch.zeros(slots, dtype=torch.bool, device=q.device)
            mask = filled.index_fill(0, group.slots, True).view(group.texts, 1, 1, -1)
        if window is not None and group.longest > window + 1:
            band = _band(range(group.longest), range(group.longest), window, causal, q.device)
            # An empty slot may see no token; without a key its row would be NaN.
            self_mask = torch.eye(group.longest, dtype=torch.bool, device=q.device)
            mask = band if mask is None else band & mask | self_mask
        q = q.unsqueeze(1) if alone else rows(q).view(shape)
        k, v = rows(k).view(shape), rows(v).view(shape)
        out = F.scaled_dot_product_attention(
            *(x.transpose(1, 2) for x in (q, k, v)),
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=causal and mask is None,
        )
        out = out.transpose(1, 2).flatten(0, 1)
        outputs.append(out if alone else out.index_select(0, group.slots))
    return torch.cat(outputs)


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor, Layout, float, int | None, bool], Tensor]] = {
    "by_text": _by_text,
    "varlen": _varlen,
    "nested": _nested,
    "padded": _padded,
}
NAMES = ("auto", *WAYS)


def knows_windows(name: str) -> bool:
    """Whether a way can attend within a window; `attend` takes ``padded`` where it cannot."""
    if name != "varlen":
        return name != "nested"
    from torch.nn.attention import varlen

    return "window_size" in inspect.signature(varlen.varlen_attn).parameters


def preferred(kind: str, dtype: torch.dtype, dropout: float, width: int) -> str:
    """The way that ``auto`` means; ``train doctor --measure`` measures them all on a machine.

    - CPU: ``by_text``. On an AMD EPYC, one thread, torch 2.13, 16 texts of about 200 tokens and 12
      heads of 64, forward and backward took 86 ms in fp32, ``padded`` 142 and ``nested`` 810; with
      dropout 137, 206 and 830; in bf16 83 and ``padded`` 117, with dropout 130 and 191.
    - CUDA in half precision without dropout of attention weights: ``varlen``, one call of the
      flash kernel on the texts as they stand.
    - CUDA otherwise: ``nested``, which torch hands to the flash kernel with dropout, and in fp32
      to the memory-efficient one. Not measured by us, like every statement on CUDA here.
      In inference mode and under gradient checkpointing, which torch's nested tensors do not
      support, `attend` takes ``padded``.
    - Other devices have none of these kernels: ``padded``, a call for each group of texts of
      similar length.

    Args:
        kind: type of the device.
        dtype: of queries, keys and values.
        dropout: of attention weights.
        width: of a head.
    """
    if kind == "cpu":
        return "by_text"
    if kind != "cuda":
        return "padded"
    return "nested" if why_not("varlen", kind, dtype, dropout, width) else "varlen"


def why_not(name: str, kind: str, dtype: torch.dtype, dropout: float, width: int) -> str | None:
    """Why a way does not run, with the arguments of `preferred`; None where it runs."""
    if name == "nested" and kind not in ("cpu", "cuda"):
        return f"nested tensors have no attention on {kind}"
    if name == "nested" and kind == "cpu" and dtype in HALF:
        # torch 2.13: "NestedTensor must be contiguous to get buffer".
        return "on a CPU nested tensors have no backward pass under autocast"
    if name != "varlen":
        return None
    if kind != "cuda":
        return f"its kernel is for CUDA devices, and this is {kind}"
    if dtype not in HALF:
        return f"its kernel is for bf16 and fp16, and these numbers are {_named(dtype)}"
    if dropout > 0:
        return f"its kernel drops no attention weights, and the dropout is {dropout}"
    if width % 8 or width > 256:
        return f"its kernel wants heads of a multiple of 8 up to 256, and they are {width} wide"
    return _varlen_here()


@cache
def _varlen_here() -> str | None:
    """Why this torch or this GPU has no kernel for texts end to end; None where it has."""
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: F401
    except ImportError:
        return f"torch {torch.__version__} has no torch.nn.attention.varlen"
    major, minor = torch.cuda.get_device_capability()
    if major < 8:
        return f"its kernel wants compute capability 8.0, and this GPU has {major}.{minor}"
    return None


def check(name: str, kind: str, dtype: torch.dtype, dropout: float, width: int) -> None:
    """Raise unless a way runs, with the arguments of `preferred`.

    Raises:
        UserError: it does not.
    """
    reason = why_not(name, kind, dtype, dropout, width)
    if reason is None:
        return
    ways = [way for way in WAYS if why_not(way, kind, dtype, dropout, width) is None]
    raise UserError(
        f"encoder.attention is {name}, but {reason}. What can run here is {', '.join(ways)}; auto "
        f"takes {preferred(kind, dtype, dropout, width)}."
    )


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _tensor(value: Any) -> Tensor:
    assert isinstance(value, Tensor)
    return value
