"""The memory that training an encoder takes, and how much there is.

What a token takes depends on the backbone, the precision, dropout, the attention, the head and
checkpointing. It is measured on two small micro-batches rather than computed from a table that
would have to know all of these: `footprint` is a line through both.

Shapes: ``U`` texts.
"""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from sciembed_train.batch import TokenRows
from sciembed_train.encoder.encoder import Encoder

MASKED = 0.15  # share of the tokens that a head predicts
# Texts of the two micro-batches: more on a GPU, so that allocation in blocks matters little.
TEXTS = {"cpu": (1, 2), "cuda": (8, 16)}
# Names of a control group's limit, its use, and the file cache in that, of both versions.
V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@dataclass(frozen=True)
class Footprint:
    """Bytes that a forward and backward pass takes beside weights and gradients.

    Args:
        fixed: whatever the number of tokens, such as weights in a lower precision.
        per_token: for each token of the texts.
    """

    fixed: int
    per_token: float

    def tokens(self, room: int) -> int:
        """Most tokens of one backward pass that ``room`` bytes hold."""
        return max(0, int((room - self.fixed) / self.per_token))

    def bytes(self, tokens: int) -> int:
        """What a backward pass of so many tokens takes."""
        return self.fixed + int(tokens * self.per_token)


class _Living(TorchDispatchMode):
    """Sums the storages that operations create, and subtracts them when they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        inputs = {t.untyped_storage()._cdata for t in _tensors((args, kwargs))}
        output = func(*args, **(kwargs or {}))
        for tensor in _tensors(output):
            storage = tensor.untyped_storage()
            if storage._cdata not in inputs and storage._cdata not in self._known:
                self._add(storage)
        return output

    def _add(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()

        def gone(_: Any) -> None:
            del self._known[key]
            self.now -= size

        self._known[key] = weakref.ref(storage, gone)
        self.now += size
        self.most = max(self.most, self.now)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in _tensors(part)]
    if isinstance(value, dict):
        return _tensors(list(value.values()))
    return []


class Watched:
    """Peak bytes of the tensors alive in this context, without those from before.

    On a CUDA device the allocator reports it. Elsewhere every operation is watched, which misses
    memory that a kernel takes internally.

    Args:
        device: where the tensors are.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._living = None if device.type == "cuda" else _Living()

    def __enter__(self) -> Watched:
        if self._living is None:
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        else:
            self._living.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._living is not None:
            self._living.__exit__(*exception)

    @property
    def most(self) -> int:
        """The peak so far."""
        if self._living is not None:
            return self._living.most
        return torch.cuda.max_memory_allocated(self.device) - self._before


def footprint(encoder: Encoder, length: int) -> Footprint:
    """What a training pass takes, from two small micro-batches of texts of ``length`` tokens.

    The precision is that of the autocast it is called in; existing gradients are lost, and torch's
    generators advance.

    Args:
        encoder: in training mode, on its device.
        length: tokens of a text. Long texts take more per token where attention keeps a table.
    """
    trained = [p for p in encoder.parameters() if p.requires_grad]
    for parameter in trained:  # gradients do not grow with the tokens: not counted
        parameter.grad = torch.zeros_like(parameter)
    sizes = TEXTS.get(encoder.device.type, TEXTS["cpu"])
    try:
        _taken(encoder, 1, min(length, 8))  # allocates what a process makes once
        peaks = [_taken(encoder, texts, length) for texts in sizes]
    finally:
        for parameter in trained:
            parameter.grad = None
    gc.collect()
    per_token = max(1.0, (peaks[1] - peaks[0]) / ((sizes[1] - sizes[0]) * length))
    fixed = max(0, int(peaks[0] - sizes[0] * length * per_token))
    # For the gradient of the embedding table, which `_taken` leaves out.
    largest = max((p.numel() * p.element_size() for p in trained), default=0)
    return Footprint(fixed + largest, per_token)


def _taken(encoder: Encoder, texts: int, length: int) -> int:
    """Peak bytes of a pass before it reaches the gradient of the embedding table.

    That gradient is as large as the table and comes when the layers' memory is free again: in a
    large micro-batch it does not set the peak, and in a small one it would hide what does.
    """
    peaks: list[int] = []

    def reached(_: Any, __: Any, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(lambda gradient: peaks.append(watched.most))

    handle = encoder.backbone.get_input_embeddings().register_forward_hook(reached)
    # A step casts the weights anew; copies cached by the last pass would not be counted.
    torch.clear_autocast_cache()
    try:
        with Watched(encoder.device) as watched:
            _pass(encoder, texts, length)
    finally:
        handle.remove()
    return max(peaks, default=watched.most)


def _pass(encoder: Encoder, texts: int, length: int) -> None:
    """Forward and backward of some texts of one length, with what the encoder is trained on."""
    device = encoder.device
    tokens = texts * length
    ids = torch.arange(tokens, device=device) % 5 + max(0, encoder.tokenizer.pad_id) + 1
    rows = TokenRows(ids, torch.full((texts,), length))
    predicted: float | Tensor = 0.0
    if encoder.head is not None and not encoder.pooling.per_sentence:
        masked = torch.arange(0, tokens, round(1 / MASKED))
        vectors, states = encoder.with_token_states(rows, masked)
        predicted = cross_entropy(encoder.token_logits(states).float(), ids[masked.to(device)])
    else:
        vectors = encoder.encode_probe(rows)
    (vectors.float().sum() + predicted).backward()


def free_memory(device: torch.device, processes_on_machine: int = 1) -> int | None:
    """Bytes that this process may still take; None where that is unknown.

    Args:
        device: where it computes.
        processes_on_machine: processes of this machine that share its main memory.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What the allocator holds in reserve is free for us and not for the driver.
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + reserved
    if device.type != "cpu":
        return None
    free = [size for size in (_machine(), _container()) if size is not None]
    return min(free) // processes_on_machine if free else None


def _machine(info: Path = Path("/proc/meminfo")) -> int | None:
    """Bytes that Linux estimates as available without swapping."""
    if not info.is_file():
        return None
    for line in info.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _container(
    groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Bytes that the limits of this process's control groups leave, file cache counted as free."""
    if not groups.is_file():
        return None
    free: list[int] = []
    for line in groups.read_text().splitlines():
        _, kind, place = line.split(":", 2)
        if kind not in ("", "memory"):
            continue
        top, names = (root / kind, V1) if kind else (root, V2)
        inner = (top / place.lstrip("/")).relative_to(top)
        # A container may see its own group as the top one; a job's limit is on a group above.
        for folder in (top / inner, *(top / parent for parent in inner.parents)):
            remaining = _left(folder, *names)
            free += [] if remaining is None else [remaining]
    return min(free, default=None)


def _left(folder: Path, limit: str, used: str, cache: str) -> int | None:
    try:
        limit_text = (folder / limit).read_text().strip()
        used_bytes = int((folder / used).read_text())
        stat = (folder / "memory.stat").read_text().split()
    except OSError:
        return None
    if limit_text == "max" or int(limit_text) >= 2**60:
        return None
    free = int(dict(zip(stat[::2], stat[1::2], strict=True)).get(cache, 0))
    return max(0, int(limit_text) - used_bytes + free)
