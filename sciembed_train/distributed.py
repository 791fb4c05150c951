"""Ranks: the only file that names one, and the collectives the rest needs.

Outside a process group every function here is the identity of one process, so that no caller
asks whether it runs alone. Shapes: ``B`` rows here, ``N`` rows on all ranks.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn

from sciembed_train.errors import UserError

_dry = False  # whether a dry run is being made


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextmanager
def dry_run() -> Iterator[None]:
    """Every rank takes the others to hold what it holds itself, and exchanges nothing.

    Shapes and memory are those of the real exchange, and no rank waits for one that has failed.
    """
    global _dry
    _dry = True
    try:
        yield
    finally:
        _dry = False


def rank() -> int:
    """This process's number among all, 0 outside a process group."""
    return dist.get_rank() if _grouped() else 0


def world_size() -> int:
    """Number of processes that train together, 1 outside a process group."""
    return dist.get_world_size() if _grouped() else 1


def launch_rank() -> int:
    """This process's number as its launcher names it, before there is a process group.

    ``RANK`` is torchrun's, ``SLURM_PROCID`` that of ``srun``, ``LOCAL_RANK`` that of Lightning's
    own launcher on one machine (the first process has none yet). Only for deciding who writes
    a folder before training starts; `rank` decides everything else. ``RANK`` comes first, as for
    Lightning: one ``srun`` task a machine may start torchrun, and its processes share the task's
    number.
    """
    if "RANK" in os.environ:
        return int(os.environ["RANK"])
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ:
        return int(os.environ["SLURM_PROCID"])
    machine = int(os.environ.get("NODE_RANK", "0"))
    return machine + int(os.environ.get("LOCAL_RANK", "0"))


class Launch(NamedTuple):
    """The processes that a launcher has started.

    Args:
        launcher: its name, for messages.
        devices: processes on each machine; None where the launcher does not say.
        nodes: machines; likewise.
        processes: all of them.
    """

    launcher: str
    devices: int | None
    nodes: int | None
    processes: int


def launch(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """What torchrun or ``srun`` has started, this process among it; None for anything else.

    Processes that Lightning starts from the first one have no ``RANK``: they are of its own.

    Raises:
        UserError: a launcher's variable is no number, or machines have different numbers.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        processes = _count(environment, "WORLD_SIZE")
        if "LOCAL_WORLD_SIZE" not in environment:  # ranks of a launcher that names no machines
            return Launch("the launcher", None, None, processes)
        here = _count(environment, "LOCAL_WORLD_SIZE")
        return Launch("torchrun", here, _share(processes, here, "torchrun"), processes)
    interactive = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")  # as for Lightning
    if "SLURM_NTASKS" in environment and "SLURM_PROCID" in environment and not interactive:
        processes = _count(environment, "SLURM_NTASKS")
        nodes = _count(environment, "SLURM_NNODES") if "SLURM_NNODES" in environment else 1
        return Launch("srun", _share(processes, nodes, "srun"), nodes, processes)
    return None


class WorkShare(NamedTuple):
    """The part of some work that this process does; the others do the rest without talking to it.

    Args:
        number: of the process, from 0.
        processes: all of them.
        launcher: what says so, for messages.
    """

    number: int
    processes: int
    launcher: str


def work_share(environment: Mapping[str, str] = os.environ) -> WorkShare | None:
    """This process's share as torchrun, ``srun`` or a job array of SLURM names it; None of none.

    The processes of several jobs of an array are numbered job after job. Jobs of an array with
    gaps, such as those of one that are submitted again, have no number among themselves: None.

    Raises:
        UserError: a launcher's variable is no number.
    """
    processes, number, launchers = 1, 0, []
    started = launch(environment)
    if started is not None:
        processes = started.processes
        name = "RANK" if "RANK" in environment else "SLURM_PROCID"
        number = _number(environment, name)
        launchers.append(started.launcher)
    array = "SLURM_ARRAY_TASK_"
    if f"{array}ID" in environment and f"{array}COUNT" in environment:
        least, largest, step = (
            _number(environment, array + name) if array + name in environment else default
            for name, default in (("MIN", 0), ("MAX", None), ("STEP", 1))
        )
        jobs, job = _count(environment, f"{array}COUNT"), _number(environment, f"{array}ID")
        job = (job - (least or 0)) // (step or 1)
        whole = largest is None or (largest - (least or 0)) // (step or 1) + 1 == jobs
        if not whole or job >= jobs:
            return None
        number, processes = job * processes + number, jobs * processes
        launchers.append("a job array")
    return WorkShare(number, processes, " in ".join(launchers)) if launchers else None


def local_rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """This process's number among those of its machine, as a launcher says it; else None.

    Raises:
        UserError: the launcher's variable is no number.
    """
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        if name in environment:
            return _number(environment, name)
    return None


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment[name]
    if not value.isdecimal():
        raise UserError(f"The environment's {name} is {value!r}; expected a number of 0 or more.")
    return int(value)


def _count(environment: Mapping[str, str], name: str) -> int:
    value = environment[name]
    if not value.isdecimal() or int(value) < 1:
        raise UserError(f"The environment's {name} is {value!r}; expected a number above 0.")
    return int(value)


def _share(processes: int, parts: int, launcher: str) -> int:
    if processes % parts:
        raise UserError(
            f"{launcher} started {processes} processes, which are not {parts} equal parts: every "
            "machine must have the same number."
        )
    return processes // parts


def _shapes(tensor: Tensor) -> list[list[int]]:
    """The shape of the tensor on every rank; all ranks must hold the same number of axes."""
    here = torch.tensor(tensor.shape, dtype=torch.int64, device=tensor.device)
    everyone = here.new_empty(world_size(), len(here))
    dist.all_gather(list(everyone.unbind()), here)
    return everyone.tolist()  # the host waits for the device once, not for each rank


def gather(tensor: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "N ..."]:
    """The rows of every rank, rank after rank, with gradient to all of them.

    The backward pass sums over ranks what each rank's loss says about a row. With local anchors
    against gathered candidates, a mean over local rows, and DDP's mean over ranks, the gradient
    is that of one process on the whole batch: no factor of the world size belongs anywhere.
    Gather each column (positives, negatives) by itself and concatenate afterwards; the label of
    local row ``i`` is then ``rank() * B + i``.

    Raises:
        ValueError: the ranks hold tensors of different shapes (a collective would hang).
    """
    if not _grouped() or world_size() == 1:
        return tensor
    if _dry:
        return torch.cat([tensor] * world_size())
    shapes = _shapes(tensor)
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"every rank must bring the same number of rows to gather; they bring {shapes}"
        )
    from torch.distributed.nn import functional  # not imported by torch.distributed itself

    with warnings.catch_warnings():
        # torch 2.13 deprecates it for a function that older versions do not have.
        warnings.filterwarnings("ignore", ".*all_gather is deprecated", FutureWarning)
        everyone = functional.all_gather(tensor.contiguous())
    return torch.cat(everyone, dim=0)


@torch.no_grad()
def gather_ragged(tensor: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "N ..."]:
    """The rows of every rank, rank after rank, without gradient; each may bring its own number."""
    if not _grouped() or world_size() == 1:
        return tensor.detach()
    if _dry:
        return torch.cat([tensor.detach()] * world_size())
    counts = [shape[0] for shape in _shapes(tensor)]
    padded = tensor.new_zeros((max(counts), *tensor.shape[1:]))
    padded[: len(tensor)] = tensor
    everyone = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(everyone, padded)
    return torch.cat([rows[:count] for rows, count in zip(everyone, counts, strict=True)])


@torch.no_grad()
def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum over ranks, on every rank, without gradient; the argument stays as it was."""
    total = tensor.detach().clone()
    if _grouped() and _dry:
        return total * world_size()
    if _grouped():
        dist.all_reduce(total)
    return total


def of_all_ranks(value: Any) -> list[Any]:
    """The plain values of every rank, in their order, on every rank."""
    if not _grouped() or world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean over ranks, on every rank, without gradient."""
    return sum_over_ranks(tensor) / world_size()


def largest_over_ranks(number: int) -> int:
    """The largest of the ranks' numbers, on every rank."""
    if not _grouped():
        return number
    device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    largest = torch.tensor(number, device=device)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return int(largest)


def shard(module: nn.Module, parts: Sequence[nn.Module], calls: Sequence[str], mesh: Any) -> None:
    """Leave each rank its part of every parameter (FSDP2); gradients are means over ranks.

    Args:
        module: of it everything that is in no part is collected together.
        parts: modules in it, each collected by itself when it runs.
        calls: names of the methods that run ``module``.
        mesh: the ranks, one-dimensional.
    """
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    device = torch.device(mesh.device_type)
    for parameter in module.parameters():  # as DDP does: all start from the first rank's
        sent = parameter.detach().to(device)
        dist.broadcast(sent, 0)
        parameter.data.copy_(sent)
    for part in parts:
        fully_shard(part, mesh=mesh)
    fully_shard(module, mesh=mesh)
    for name in calls:
        if name != "forward":
            register_fsdp_forward_method(module, name)


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is this rank's part of a sharded one."""
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def full_tensor(value: Any) -> Any:
    """The whole of a sharded tensor, on the host; anything else as it is."""
    return value.full_tensor().cpu() if is_sharded(value) else value


def local_part(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor; any other as it is."""
    sharded: Any = tensor
    return sharded.to_local() if is_sharded(tensor) else tensor


def sharded_like(like: Tensor, value: Any) -> Any:
    """This rank's part of a whole tensor, where ``like`` is such a part and of its shape."""
    if not is_sharded(like) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    shared: Any = like
    # Every rank has read the same file: nothing need be sent.
    return distribute_tensor(
        value.to(like.device), shared.device_mesh, shared.placements, src_data_rank=None
    )


def backends() -> list[str]:
    """Those of gloo (CPUs) and nccl (GPUs) that are in this build of torch."""
    if not dist.is_available():
        return []
    available = {"gloo": dist.is_gloo_available(), "nccl": dist.is_nccl_available()}
    return [name for name, is_there in available.items() if is_there]


@contextmanager
def first_rank_alone() -> Iterator[bool]:
    """Whether this is the first rank, which works in the block; the others wait at its end.

    They wait in a group of their own for days, where other exchanges end after minutes.
    """
    if not _grouped() or _dry:
        yield True
        return
    group: Any = dist.new_group(backend="gloo", timeout=timedelta(days=7))
    yield rank() == 0
    dist.barrier(group)
    dist.destroy_process_group(group)


def connected() -> bool:
    """Whether this process has joined the others."""
    return _grouped()


def lost_connection(error: BaseException) -> bool:
    """Whether an error of an exchange means that another rank has gone.

    gloo raises a RuntimeError that names its own source file; nccl and the store have classes.
    """
    return (dist.is_available() and isinstance(error, dist.DistError)) or (
        isinstance(error, RuntimeError) and "gloo/" in str(error)
    )


def barrier() -> None:
    """Return when every rank has come here; in a dry run at once."""
    if _grouped() and not _dry:
        dist.barrier()
