"""The command ``doctor``: what this machine has, what would run, what would not and why."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sciembed_train.errors import UserError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# GHSA-w37p-236h-pfx3: these releases carried code that steals credentials.
STOLEN_LIGHTNING = ("2.6.2", "2.6.3")
# CVE-2026-4372: before this version a crafted config.json can run code, where `kernels` is there.
SAFE_TRANSFORMERS = "5.3"
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
BF16_FLAGS = ("avx512_bf16", "amx_bf16")

# What can be done beyond training, and the extra of this package that it needs.
TASKS: dict[str, tuple[str, str]] = {
    "prepare": ("prepare", "mine a corpus from papers and citations (DuckDB, Parquet)"),
    "adapters": ("adapters", "adapters of the AdapterHub library"),
    "export check": ("st", "loading an export back through sentence-transformers"),
    "datasets": ("datasets", "papers, citations and tasks from a datasets dataset"),
    "wandb": ("wandb", "logging to Weights & Biases"),
    "bm25": ("bm25", "BM25 beside the encoder in a table"),
    "probes": ("probes", "probes of SciRepEval's classifications and regressions"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the answer.

    Args:
        about: the part it belongs to: machine, package, safety, run, disk, or what ranks exchange.
        name: what was looked at.
        state: ``ok``; ``note`` to know; ``no`` for something that would not run but is optional;
            ``bad`` for what must be mended first.
        detail: what was found and, where it is not ``ok``, what to do.
    """

    about: Literal["machine", "package", "safety", "run", "disk", "exchange"]
    name: str
    state: Literal["ok", "note", "no", "bad"]
    detail: str


def versions() -> dict[str, str]:
    """Version of each distribution on this interpreter's path, by normalised name."""
    found: dict[str, str] = {}
    for dist in metadata.distributions():
        name = dist.metadata["Name"]
        if name:  # a half-removed distribution has none
            found.setdefault(name.lower().replace("_", "-"), dist.version)
    return found


def requirements() -> list[Requirement]:
    """This package's own requirements, extras included, as its metadata states them."""
    from packaging.requirements import Requirement

    try:
        texts = metadata.requires("sciembed_train") or []
    except metadata.PackageNotFoundError:  # its source is run without being installed
        import tomllib

        tables = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
        project = tables["project"]
        texts = list(project["dependencies"])
        for extra, names in project["optional-dependencies"].items():
            texts += [f'{name}; extra == "{extra}"' for name in names]
    return [Requirement(text) for text in texts]


def lacking(needs: list[Requirement], found: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Name and complaint of every requirement that is not met."""
    for need in needs:
        have = found.get(need.name.lower().replace("_", "-"))
        if have is None:
            yield need.name, "not installed"
        elif not need.specifier.contains(have, prereleases=True):
            yield need.name, f"{have} is installed, {need.specifier} is admitted"


def of_extra(needs: list[Requirement], extra: str) -> list[Requirement]:
    """The requirements that an extra adds; with ``""``, those of the package itself."""
    return [
        need
        for need in needs
        if (need.marker is None and not extra)
        or (
            need.marker is not None
            and need.marker.evaluate({"extra": extra})
            and not (extra and need.marker.evaluate({"extra": ""}))
        )
    ]


def safety(found: Mapping[str, str]) -> Iterator[Finding]:
    """Releases that must not be used, and combinations that are dangerous."""
    from packaging.version import Version

    for name in ("pytorch-lightning", "lightning"):
        if found.get(name) in STOLEN_LIGHTNING:
            yield Finding(
                "safety",
                name,
                "bad",
                f"{found[name]} carried code that steals credentials (GHSA-w37p-236h-pfx3). Remove "
                "it, change every password and token this machine knew, install 2.6.6.",
            )
    transformers = found.get("transformers")
    if transformers and Version(transformers) < Version(SAFE_TRANSFORMERS):
        risk = (
            f"transformers {transformers} with a crafted config.json can run code (CVE-2026-4372)"
        )
        if "kernels" in found:
            yield Finding(
                "safety",
                "kernels",
                "bad",
                f"{risk}, and `kernels`, which it needs for that, is installed. pip uninstall "
                "kernels.",
            )
        else:
            yield Finding(
                "safety",
                "transformers",
                "note",
                f"{risk} where the package `kernels` is installed. It is not: keep it so, and load "
                "only models you trust.",
            )


def packages(needs: list[Requirement], found: Mapping[str, str]) -> Iterator[Finding]:
    """Every package that training itself needs."""
    core = of_extra(needs, "")
    wrong = dict(lacking(core, found))
    for need in core:
        if need.name in wrong:
            yield Finding(
                "package",
                need.name,
                "bad",
                f"{wrong[need.name]}. Install {need.name}{need.specifier}, or let ./train make its "
                "own environment.",
            )
        else:
            have = found[need.name.lower().replace("_", "-")]
            yield Finding("package", need.name, "ok", f"{have} (admitted: {need.specifier})")


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
    """What torch sees: its build, GPUs, half precision, and ways for processes to talk."""
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
    import torch.distributed as dist

    for name, there, use in (
        ("gloo", dist.is_available() and dist.is_gloo_available(), "several processes on CPUs"),
        ("nccl", dist.is_available() and dist.is_nccl_available(), "several GPUs"),
    ):
        detail = use if there else f"{use}: not in this build of torch"
        yield Finding("run", name, "ok" if there else "no", detail)


def tasks(needs: list[Requirement], found: Mapping[str, str]) -> Iterator[Finding]:
    """What the extras make possible."""
    for name, (extra, what) in TASKS.items():
        wrong = [f"{package} {why}" for package, why in lacking(of_extra(needs, extra), found)]
        fix = f"{'; '.join(wrong)}. pip install 'sciembed_train[{extra}]'"
        yield Finding("run", name, "no" if wrong else "ok", f"{what}: {fix}" if wrong else what)


def disk(folder: Path) -> Iterator[Finding]:
    """Whether runs can be written, and the room there is."""
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


def exchanges(recipes: list[str], gpus: int) -> Iterator[Finding]:
    """What each rank sends in a step of a recipe, where there are several."""
    from sciembed_train.training.communication import of_recipe

    if gpus < 2:
        return
    volumes = list(of_recipe(recipes, gpus))
    for volume in volumes:
        sent = f"{volume.sent / 1e6:,.1f} MB sent by each of {gpus} GPUs in a step"
        yield Finding("exchange", volume.name, "ok", f"{sent}: {volume.detail}")
    total = sum(volume.sent for volume in volumes)
    yield Finding("exchange", "together", "ok", f"{total / 1e6:,.1f} MB")


def examine(checkpoints: Path) -> list[Finding]:
    """Every finding, in the order in which they are printed."""
    found, needs = versions(), requirements()
    return [
        *machine(),
        *accelerators(),
        *packages(needs, found),
        *safety(found),
        *tasks(needs, found),
        *disk(checkpoints),
    ]


def render(findings: list[Finding]) -> str:
    """The findings as a table for people."""
    marks = {"ok": "ok ", "note": "i  ", "no": "-  ", "bad": "!! "}
    titles = {
        "machine": "This machine",
        "package": "Packages that training needs",
        "safety": "Safety",
        "run": "What would run",
        "disk": "Where runs go",
        "exchange": "What GPUs exchange",
    }
    lines = []
    for about, title in titles.items():
        here = [f for f in findings if f.about == about]
        if not here:
            continue
        width = max((len(f.name) for f in here), default=0)
        lines += [title, *(f"  {marks[f.state]}{f.name:<{width}}  {f.detail}" for f in here), ""]
    bad = [f.name for f in findings if f.state == "bad"]
    lines.append(f"To mend first: {', '.join(bad)}." if bad else "Nothing stands in the way.")
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    """Print what this machine has and can do; 1 when something must be mended first, else 0."""
    parser = argparse.ArgumentParser("train doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("-c", "--config", action="append", default=[], help="a recipe, for --gpus")
    parser.add_argument("--gpus", type=int, default=1, help="count what so many exchange in a step")
    parser.add_argument(
        "--measure", action="store_true", help="measure the ways of attending (encoder.attention)"
    )
    args = parser.parse_args(argv)
    if args.measure and args.json:
        raise UserError("--measure prints a table for people; leave --json out.")
    if args.gpus < 1:
        raise UserError(f"--gpus must be 1 or more; got {args.gpus}.")
    if args.config and args.gpus < 2:
        raise UserError("-c names a recipe for --gpus: say of how many GPUs, such as --gpus 8.")
    findings = [*examine(Path("checkpoints")), *exchanges(args.config, args.gpus)]
    ready = all(f.state != "bad" for f in findings)
    if args.json:
        print(json.dumps({"ready": ready, "findings": [asdict(f) for f in findings]}, indent=2))
    else:
        print(render(findings))
    if args.measure and ready:
        from sciembed_train.encoder.profiling.attention_speed import report

        print(f"\n{report()}")
    return 0 if ready else 1
