"""Who imports whom, and what no tracked file may hold."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "sciembed_train"

# A room is a module or a package; the first of these prefixes that fits names it. `encoder.pooling`
# and `evaluation.metrics` are leaves of their own inside a larger room.
LEAVES = (
    *("errors", "safety", "inputs", "similarity", "transport", "alike"),
    *("losses", "distributed", "optim"),
)
INNER_LEAVES = ("encoder.pooling", "evaluation.metrics")
ROOMS = ("corpus", "sampling", "encoder", "methods", "evaluation", "export")
SINGLE = ("batches", "data", "invented", "matching", "plan_picture")
VERBS = (
    "cli",
    "fit",
    "show",
    "quickstart",
    "doctor",
    "measuring",
    "communication",
    "checks",
    "compare",
    "aligning",
    "corpus.prepare",
    "export.command",
    "export.importing",
    "evaluation.command",
    "evaluation.embed",
)

# What a room may import, besides itself. Verbs may import what they need.
MAY: dict[str, set[str]] = {
    "errors": set(),
    "safety": {"errors"},
    "inputs": {"safety", "errors"},
    "similarity": {"errors"},
    "transport": {"errors"},
    "alike": {"errors"},
    "losses": {"errors"},
    "distributed": {"errors"},
    "optim": {"errors"},
    "encoder.pooling": {"errors"},
    "evaluation.metrics": {"errors"},
    "batches": set(),
    "invented": {"errors"},
    "corpus": {"inputs", "errors"},
    "sampling": {"corpus", "batches", "inputs", "errors"},
    "encoder": {"encoder.pooling", "inputs", "batches", "safety", "errors"},
    "methods": {
        *("encoder", "encoder.pooling", "similarity", "transport", "losses"),
        *("evaluation.metrics", "distributed", "optim", "batches", "inputs", "errors"),
    },
    "data": {"sampling", "batches", "corpus", "distributed", "inputs", "errors"},
    "evaluation": {
        *("encoder", "encoder.pooling", "similarity", "transport", "evaluation.metrics"),
        *("batches", "inputs", "corpus", "errors"),
    },
    "export": {"encoder", "encoder.pooling", "transport", "inputs", "errors"},
    "plan_picture": set(),
    "matching": {"encoder", "similarity", "transport", "corpus", "plan_picture", "errors"},
}

# Libraries that only these rooms may import, at the top or inside a function.
ONLY = {
    "pytorch_lightning": {"methods", "data", "fit", "quickstart", "show"},
    "duckdb": {"corpus", "corpus.prepare"},
    "sentence_transformers": {"export", "export.command"},
    "torch.distributed": {"distributed"},
}
# Rooms that must run without a model library, wherever the import stands.
WITHOUT = {"corpus": {"torch", "pytorch_lightning"}}
NAMES_A_RANK = re.compile(
    r"\b(?:LOCAL_RANK|GLOBAL_RANK|WORLD_SIZE|RANK|SLURM_PROCID|SLURM_LOCALID)\b"
)


def room(module: str) -> str:
    """The room of a dotted module name below the package."""
    for name in (*INNER_LEAVES, *VERBS, *LEAVES, *SINGLE, *ROOMS):
        if module == name or module.startswith(name + "."):
            return name
    return module


@cache
def imports() -> dict[str, set[tuple[str, bool]]]:
    """Of each module of the package, what it imports, and whether that is done on import."""
    found: dict[str, set[tuple[str, bool]]] = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / PACKAGE).with_suffix("").parts)
        if module == "__init__":
            continue
        tree = ast.parse(path.read_text(), str(path))
        typing_only = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
            for inner in ast.walk(node)
        }
        lazy = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for inner in ast.walk(node)
        } | typing_only
        here = found.setdefault(module.removesuffix(".__init__"), set())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative imports hide who imports whom"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            else:
                continue
            here.update((name, id(node) not in lazy) for name in names)
    return found


def ours() -> dict[str, set[str]]:
    """Of each module, the rooms of ours it imports."""
    modules = set(imports())
    found: dict[str, set[str]] = {}
    for module, names in imports().items():
        found[module] = set()
        for name, _ in names:
            if name.startswith(PACKAGE + "."):
                inner = name.removeprefix(PACKAGE + ".")
                # `from a.b import c` is the module a.b.c where there is one, else a.b.
                target = inner if inner in modules else inner.rpartition(".")[0]
                if target:
                    found[module].add(room(target))
    return found


def tracked() -> list[Path]:
    """The files git knows."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if names.returncode != 0:
        pytest.skip("not a git checkout: there is no list of tracked files")
    return [ROOT / name for name in names.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("module", sorted(imports()))
def test_a_room_imports_only_the_rooms_it_may(module):
    here = room(module)
    if here in VERBS or not module:
        return
    assert here in MAY, f"{module} belongs to no room of the table: give it one"
    beyond = ours()[module] - MAY[here] - {here}
    assert not beyond, f"{module} imports {sorted(beyond)}; {here} may import {sorted(MAY[here])}"


def test_nothing_but_verbs_imports_a_verb():
    for module, rooms in ours().items():
        if room(module) not in VERBS:
            assert not rooms & set(VERBS), module


def test_methods_never_import_each_other():
    """What several methods share lies beside them in modules that define no method."""
    places = (ROOT / PACKAGE / "methods").glob("*.py")
    defining = {p.stem for p in places if re.search(r"^class \w+\(Method\)", p.read_text(), re.M)}
    assert {"specter", "declutr"} <= defining
    for module, names in imports().items():
        if room(module) == "methods":
            own = module.removeprefix("methods.")
            for other in defining - {own}:
                start = f"{PACKAGE}.methods.{other}"
                found = {n for n, _ in names if n == start or n.startswith(f"{start}.")}
                assert not found, module


@pytest.mark.parametrize("library", sorted(ONLY))
def test_a_library_is_imported_only_by_its_rooms(library):
    users = {
        room(module)
        for module, names in imports().items()
        if any(name == library or name.startswith(library + ".") for name, _ in names)
    }
    assert users <= ONLY[library] | {"doctor"}, sorted(users)


@pytest.mark.parametrize("here", sorted(WITHOUT))
def test_a_room_runs_without_a_model_library(here):
    for module, names in imports().items():
        if room(module) == here:
            tops = {name.partition(".")[0] for name, _ in names}
            assert not tops & WITHOUT[here], module


def test_optional_libraries_are_imported_where_they_are_used():
    optional = {"duckdb", "pyarrow", "datasets", "wandb", "adapters", "bm25s", "zstandard"}
    optional |= {"sentence_transformers", "syntok", "sklearn", "scipy"}
    for module, names in imports().items():
        at_import = {name.partition(".")[0] for name, eager in names if eager}
        assert not at_import & optional, module


def test_only_distributed_names_a_rank_or_world_size():
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        if path.name != "distributed.py":
            assert not NAMES_A_RANK.search(path.read_text()), path
            assert "get_rank(" not in path.read_text(), path
            assert "get_world_size(" not in path.read_text(), path


def test_no_tracked_file_holds_a_machine_path_or_a_package_index():
    # Brackets keep these patterns from finding themselves.
    machine = re.compile(
        r"(?<![\w.])/(?:root|work|farm|opt|home)/\w|/tmp/\w*bash|index[-]url|/simple[/]"
        r"|python[h]osted|pypi[.]org|pytorch[.]org/whl|registry[.]npmjs"
    )
    for path in tracked():
        if path.suffix in (".png", ".gz", ".zst", ".parquet"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert not machine.search(line), f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


def test_no_tracked_file_is_over_500_kb():
    large = {str(p.relative_to(ROOT)): p.stat().st_size for p in tracked()}
    assert not {name: size for name, size in large.items() if size > 500_000}


def test_every_module_is_documented():
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        if path.name != "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), path


def test_constraints_are_names_and_versions_only():
    pins = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    for pin in pins:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", pin), pin
    names = [pin.partition("==")[0].lower() for pin in pins]
    assert names == sorted(names)
    assert not [n for n in names if n.startswith(("nvidia", "triton", "cuda"))]
    assert "torch==2.13.0" in pins
    assert "transformers==4.57.6" in pins
    assert "pytorch-lightning==2.6.6" in pins


def test_every_direct_need_is_pinned_in_an_admitted_version():
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    from sciembed_train.doctor import requirements

    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    for need in map(Requirement, map(str, requirements())):
        name = canonicalize_name(need.name)
        if name != "sciembed-train":
            assert name in pins, name
            assert need.specifier.contains(pins[name]), need
