"""Who imports whom, and what no tracked file may hold."""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "sciembed_train"

# Packages, and modules at the top. The first name that fits a module is its package;
# `evaluation.metrics` is a leaf of its own inside a larger package.
LEAVES = (
    *("errors", "safety", "progress", "text", "losses", "distributed"),
    *("optim_settings", "optim", "batch", "whole_folder", "full_disk", "report_page"),
)
INNER_LEAVES = ("evaluation.metrics",)
PACKAGES = (
    *("config", "corpus", "sampling", "encoder", "methods", "training"),
    *("inference", "evaluation", "export", "diagnostics", "hard_negatives", "search", "commands"),
)
SINGLE = ("synthetic", "cli", "api", "quickstart")
COMMANDS = ("cli", "commands", "api", "quickstart")

# What a package may import, besides itself. Commands may import what they need.
MAY: dict[str, set[str]] = {
    "errors": set(),
    "progress": {"errors"},
    "whole_folder": {"errors"},
    "full_disk": {"errors"},
    "report_page": set(),
    "safety": {"errors"},
    "text": {"safety", "errors"},
    "losses": {"errors"},
    "distributed": {"errors"},
    "optim_settings": {"errors"},
    "optim": {"optim_settings", "errors"},
    "batch": {"distributed", "errors"},
    "evaluation.metrics": {"errors"},
    "synthetic": {"errors"},
    "corpus": {"text", "progress", "whole_folder", "full_disk", "report_page", "errors"},
    "sampling": {"corpus", "batch", "distributed", "text", "progress", "errors"},
    "encoder": {"text", "batch", "safety", "errors"},
    "methods": {
        *("encoder", "losses", "evaluation.metrics"),
        *("distributed", "optim", "optim_settings", "batch", "text", "errors"),
    },
    "diagnostics": {
        *("training", "config", "distributed"),
        *("corpus", "export", "progress", "errors"),
    },
    "inference": {
        *("encoder", "losses", "batch", "corpus", "text", "safety", "distributed"),
        *("whole_folder", "full_disk", "progress", "errors"),
    },
    "hard_negatives": {
        *("inference", "sampling", "corpus", "text"),
        *("batch", "full_disk", "progress", "errors"),
    },
    "search": {
        *("inference", "encoder", "text", "safety"),
        *("whole_folder", "full_disk", "progress", "errors"),
    },
    "evaluation": {
        *("inference", "encoder", "losses", "evaluation.metrics"),
        *("batch", "text", "corpus", "safety", "report_page"),
        *("whole_folder", "full_disk", "progress", "errors"),
    },
    "export": {
        *("encoder", "losses", "text"),
        *("safety", "whole_folder", "full_disk", "errors"),
    },
    "config": {
        *("corpus", "sampling", "methods", "encoder", "text"),
        *("optim_settings", "errors"),
    },
    "training": {
        *("config", "methods", "sampling", "evaluation", "inference", "export", "encoder"),
        *("corpus", "text", "safety", "distributed", "optim_settings", "batch", "progress"),
        *("whole_folder", "full_disk", "report_page", "errors"),
    },
}

# Libraries that only these rooms may import, at the top or inside a function.
ONLY = {
    "pytorch_lightning": {"methods", "sampling", "training"},
    "duckdb": {"corpus"},
    "sentence_transformers": {"export"},
    "torch.distributed": {"distributed"},
    "faiss": {"search"},
    "onnx": {"safety", "export"},
    "onnxruntime": {"encoder", "export"},
    "openvino": {"encoder", "export"},
    "nncf": {"export"},
}
# Rooms that must run without a model library, wherever the import stands.
WITHOUT = {"corpus": {"torch", "pytorch_lightning"}}
NAMES_A_RANK = re.compile(
    r"\b(?:LOCAL_RANK|GLOBAL_RANK|WORLD_SIZE|RANK|SLURM_PROCID|SLURM_LOCALID)\b"
)


def package_of(module: str) -> str:
    """The package of a dotted module name below sciembed_train."""
    for name in (*INNER_LEAVES, *LEAVES, *SINGLE, *PACKAGES):
        if module == name or module.startswith(name + "."):
            return name
    return module


def modules() -> dict[str, Path]:
    """The modules of the package by their dotted names, the package itself left out."""
    paths = sorted((ROOT / PACKAGE).rglob("*.py"))
    found = {".".join(p.relative_to(ROOT / PACKAGE).with_suffix("").parts): p for p in paths}
    return {n.removesuffix(".__init__"): p for n, p in found.items() if n != "__init__"}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@cache
def imports() -> dict[str, set[tuple[str, bool]]]:
    """Of each module of the package, what it imports, and whether that is done on import."""
    found: dict[str, set[tuple[str, bool]]] = {}
    for module, path in modules().items():
        tree = parsed(path)
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
        here = found.setdefault(module, set())
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


@cache
def ours() -> dict[str, set[str]]:
    """Of each module, the packages of ours it imports."""
    found: dict[str, set[str]] = {}
    for module, names in imports().items():
        found[module] = set()
        for name, _ in names:
            if name.startswith(PACKAGE + "."):
                inner = name.removeprefix(PACKAGE + ".")
                # `from a.b import c` is the module a.b.c where there is one, else a.b.
                target = inner if inner in imports() else inner.rpartition(".")[0]
                if target:
                    found[module].add(package_of(target))
    return found


def tracked() -> list[Path]:
    """The files git knows."""
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if names.returncode != 0:
        pytest.skip("not a git checkout: there is no list of tracked files")
    return [ROOT / name for name in names.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("module", sorted(modules()))
def test_a_package_imports_only_the_packages_it_may(module):
    here = package_of(module)
    if here in COMMANDS or not module:
        return
    assert here in MAY, f"{module} belongs to no package of the table: give it one"
    beyond = ours()[module] - MAY[here] - {here}
    assert not beyond, f"{module} imports {sorted(beyond)}; {here} may import {sorted(MAY[here])}"


def test_only_the_command_line_imports_commands():
    """A command parses, calls the library and prints: there is nothing in it to import."""
    for module, names in imports().items():
        start = f"{PACKAGE}.commands"
        commands = {n for n, _ in names if n == start or n.startswith(f"{start}.")}
        assert not commands or module == "cli", f"{module} imports {sorted(commands)}"


# Circles that are still to go, by their modules; one that is gone must be taken out here.
CIRCLES_TO_GO: list[set[str]] = []


def circles() -> list[set[str]]:
    """Modules that import one another, in whatever way: on import, inside a function, for types."""
    known = set(imports())
    targets = {
        module: {
            inner if inner in known else inner.rpartition(".")[0]
            for name, _ in names
            if name.startswith(PACKAGE + ".") and (inner := name.removeprefix(PACKAGE + "."))
        }
        for module, names in imports().items()
    }
    reached: dict[str, set[str]] = {}
    for module in known:
        seen: set[str] = set()
        stack = list(targets[module])
        while stack:
            target = stack.pop()
            if target in known and target not in seen:
                seen.add(target)
                stack += targets[target]
        reached[module] = seen
    groups = {frozenset(m for m in reached[a] if a in reached[m]) for a in known}
    return [set(group) for group in groups if group]


def test_no_modules_import_one_another():
    """Annotations count: a class that its helpers must know is cut into files, not into parts."""
    found = circles()
    for known in CIRCLES_TO_GO:
        assert known in found, f"take {sorted(known)} out of CIRCLES_TO_GO"
    assert [sorted(group) for group in found if group not in CIRCLES_TO_GO] == []


def test_methods_never_import_each_other():
    """What several methods share lies beside them in modules that define no method."""
    places = (ROOT / PACKAGE / "methods").glob("*.py")
    defining = {p.stem for p in places if re.search(r"^class \w+\(Method\)", p.read_text(), re.M)}
    assert {"specter", "declutr"} <= defining
    for module, names in imports().items():
        if package_of(module) == "methods":
            own = module.removeprefix("methods.")
            for other in defining - {own}:
                start = f"{PACKAGE}.methods.{other}"
                found = {n for n, _ in names if n == start or n.startswith(f"{start}.")}
                assert not found, module


@pytest.mark.parametrize("library", sorted(ONLY))
def test_a_library_is_imported_only_by_its_packages(library):
    users = {
        package_of(module)
        for module, names in imports().items()
        if any(name == library or name.startswith(library + ".") for name, _ in names)
    }
    assert users <= ONLY[library], sorted(users)


@pytest.mark.parametrize("here", sorted(WITHOUT))
def test_a_package_runs_without_a_model_library(here):
    for module, names in imports().items():
        if package_of(module) == here:
            tops = {name.partition(".")[0] for name, _ in names}
            assert not tops & WITHOUT[here], module


def test_optional_libraries_are_imported_where_they_are_used():
    optional = {"duckdb", "pyarrow", "datasets", "wandb", "adapters", "peft", "bm25s", "zstandard"}
    optional |= {"sentence_transformers", "syntok", "sklearn", "scipy", "mteb", "faiss"}
    optional |= {"onnx", "onnxruntime", "openvino", "nncf"}
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


def test_tests_mirror_the_package_file_by_file():
    """What a module does is tested in ``tests/`` under its own path and name."""
    missing = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        module = path.relative_to(ROOT / PACKAGE)
        if not (ROOT / "tests" / module.parent / f"test_{module.name}").is_file():
            missing.append(str(module))
    missing = [name for name in missing if Path(name).name != "__init__.py"]
    assert not missing


def test_every_module_is_documented():
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        if path.name != "__init__.py":
            assert ast.get_docstring(parsed(path)), path


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

    from sciembed_train.diagnostics.packages import requirements

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
