"""The packages: those that training needs, what the extras make possible, what is unsafe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from sciembed_train.diagnostics.finding import Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# GHSA-w37p-236h-pfx3: these releases carried code that steals credentials.
STOLEN_LIGHTNING = ("2.6.2", "2.6.3")
# CVE-2026-4372: before this version a crafted config.json can run code, where `kernels` is there.
SAFE_TRANSFORMERS = "5.3"

# What can be done beyond training, and the extra of this package that it needs.
TASKS: dict[str, tuple[str, str]] = {
    "prepare": ("prepare", "mine a corpus from papers and citations (DuckDB, Parquet)"),
    "adapters": ("adapters", "adapters of the AdapterHub library"),
    "lora": ("lora", "low-rank updates (LoRA) through peft"),
    "export check": ("st", "loading an export back through sentence-transformers"),
    "datasets": ("datasets", "papers, citations and tasks from a datasets dataset"),
    "wandb": ("wandb", "logging to Weights & Biases"),
    "bm25": ("bm25", "BM25 beside the encoder in a table"),
    "graph": ("graph", "triplets from neighbours in the citation graph (SciNCL)"),
    "search": ("search", "an index of vectors, and searching it (FAISS)"),
    "probes": ("probes", "probes of SciRepEval's classifications and regressions"),
}


def versions() -> dict[str, str]:
    """Version of each distribution on this interpreter's path, by normalised name."""
    version_of_name: dict[str, str] = {}
    for dist in metadata.distributions():
        name = dist.metadata["Name"]
        if name:  # a half-removed distribution has none
            version_of_name.setdefault(name.lower().replace("_", "-"), dist.version)
    return version_of_name


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


def tasks(needs: list[Requirement], found: Mapping[str, str]) -> Iterator[Finding]:
    """What the extras make possible."""
    for name, (extra, what) in TASKS.items():
        wrong = [f"{package} {why}" for package, why in lacking(of_extra(needs, extra), found)]
        fix = f"{'; '.join(wrong)}. pip install 'sciembed_train[{extra}]'"
        yield Finding("run", name, "no" if wrong else "ok", f"{what}: {fix}" if wrong else what)


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
