"""The machine: processor, memory, GPUs, precisions, and where runs can be written."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from sciembed_train.diagnostics.finding import Finding

CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
BF16_FLAGS = ("avx512_bf16", "amx_bf16")


def cpu() -> tuple[str, list[str]]:
    """Name of the processor and those of ``CPU_FLAGS`` it has; none are known outside Linux."""
    name, flags = platform.processor() or platform.machine(), []
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags = [flag for flag in CPU_FLAGS if flag in value.split()]
                break
    return name, flags


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> Iterator[Finding]:
    """Processor, memory, Python."""
    name, flags = cpu()
    yield Finding("machine", "python", "ok", f"{platform.python_version()} ({sys.executable})")
    yield Finding("machine", "system", "ok", f"{platform.system()} {platform.machine()}")
    detail = f"{name}, {cores()} cores usable"
    yield Finding("machine", "cpu", "ok", f"{detail}; {', '.join(flags) or 'flags unknown'}")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Finding("machine", "memory", "ok", f"{total / 2**30:.1f} GiB")


def accelerators() -> Iterator[Finding]:
    """What torch sees: its build, GPUs, half precision, and back ends of distributed training."""
    try:
        import torch
    except ImportError as error:
        yield Finding("run", "fit", "bad", f"torch cannot be imported: {error}")
        return
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    yield Finding("machine", "torch", "ok", f"{torch.__version__}, built for {built}")
    gpus = torch.cuda.device_count()
    for i in range(gpus):
        props = torch.cuda.get_device_properties(i)
        yield Finding(
            "machine",
            f"gpu {i}",
            "ok",
            f"{props.name}, {props.total_memory / 2**30:.1f} GiB, "
            f"compute capability {props.major}.{props.minor}",
        )
    if not gpus and torch.version.cuda:
        yield Finding("machine", "gpu", "note", "torch is a CUDA build but sees no GPU")
    yield Finding(
        "run",
        "fit",
        "ok",
        f"on {gpus} GPU{'s' * (gpus > 1)}" if gpus else "on the CPU; there is no GPU",
    )
    if gpus:
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        yield Finding(
            "run",
            "bf16",
            "ok" if bf16 else "no",
            "in the GPU's hardware"
            if bf16
            else "the GPU has none: use --trainer.precision 16-mixed",
        )
    else:
        has = [flag for flag in BF16_FLAGS if flag in cpu()[1]]
        yield Finding(
            "run",
            "bf16",
            "ok" if has else "no",
            f"in the processor ({', '.join(has)})"
            if has
            else f"the processor has none of {', '.join(BF16_FLAGS)}: 32-true is faster here",
        )
    from sciembed_train import distributed

    available = distributed.backends()
    for name, use in (("gloo", "several processes on CPUs"), ("nccl", "several GPUs")):
        detail = use if name in available else f"{use}: not in this build of torch"
        yield Finding("run", name, "ok" if name in available else "no", detail)


def disk(folder: Path) -> Iterator[Finding]:
    """Whether runs can be written, and the free space."""
    place = folder.resolve()
    while not place.exists():
        place = place.parent
    free = f"{shutil.disk_usage(place).free / 2**30:.1f} GiB free"
    if os.access(place, os.W_OK | os.X_OK) and place.is_dir():
        yield Finding("disk", str(folder), "ok", f"writable, {free}")
    else:
        yield Finding(
            "disk",
            str(folder),
            "bad",
            f"{place} is no folder that may be written, {free}. Start in a folder where you may.",
        )
