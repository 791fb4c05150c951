"""The entries of a suite: which benchmark on which data, found by files or listed in YAML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from sciembed_train.errors import UserError, why_no_file
from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS
from sciembed_train.evaluation.evaluate_settings import BenchmarkSettings

DEPTH = 2  # folders of folders, such as one of systematic reviews
WHAT_IS_SCORED = ("model", "ranking", "embeddings", "query_embeddings", "run_to")
NOT_OPTIONS = frozenset({*WHAT_IS_SCORED, "benchmark", "data"})


@dataclass(frozen=True)
class Entry:
    """One benchmark on one collection.

    Args:
        name: in tables and file names, such as ``cacm/retrieval``.
        benchmark: its name in the registry.
        data: the folder, or a file of papers.
        options: settings of `BenchmarkSettings` beside these.
    """

    name: str
    benchmark: str
    data: Path
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """What a folder or a YAML file holds.

    Args:
        entries: the benchmarks that are there.
        unknown: folders in which nothing was recognised.
        missing: benchmarks of the registry that are not there.
    """

    entries: Sequence[Entry]
    unknown: Sequence[str] = ()
    missing: Sequence[str] = ()

    def only(self, wanted: Sequence[str]) -> Suite:
        """The entries of these names or benchmarks; all where none is wanted.

        Raises:
            UserError: there is none of a name.
        """
        if not wanted:
            return self
        chosen = [e for e in self.entries if e.name in wanted or e.benchmark in wanted]
        for name in wanted:
            if not any(name in (entry.name, entry.benchmark) for entry in chosen):
                names = ", ".join(entry.name for entry in self.entries)
                raise UserError(f"--only {name}: there is none in the suite; it has {names}.")
        return Suite(chosen)


def open_suite(place: str | Path) -> Suite:
    """The suite of a folder, or of a YAML file.

    Raises:
        UserError: there is no such place, nothing is recognised, or the file is malformed.
    """
    place = Path(place).expanduser()
    if place.is_file() and place.suffix in (".yaml", ".yml"):
        return _listed(place)
    if not place.is_dir():
        raise UserError(f"{place}: {why_no_file(place, 'folder or YAML file')} (--suite).")
    entries: list[Entry] = []
    unknown: list[str] = []
    for folder, found in _recognised(place, DEPTH):
        name = place.name if folder == place else folder.relative_to(place).as_posix()
        entries += [Entry(named(name, benchmark), benchmark, folder) for benchmark in found]
        if not found:
            unknown.append(name)
    if not entries:
        raise UserError(
            f"{place}: no benchmark is recognised by its files. Expected a folder for each, such "
            "as papers with queries and qrels, citations, labels, or CSFCube as released."
        )
    there = {entry.benchmark for entry in entries}
    return Suite(entries, unknown, [name for name in BENCHMARKS if name not in there])


def recognised(folder: Path) -> list[str]:
    """The names of the benchmarks whose files a folder has."""
    return [name for name, one in BENCHMARKS.items() if one.is_in(folder, name)]


def _recognised(folder: Path, depth: int) -> Iterator[tuple[Path, list[str]]]:
    """Each folder with what is recognised in it; one with nothing has none recognised below."""
    found = recognised(folder)
    inner = [] if found or not depth else sorted(p for p in folder.iterdir() if p.is_dir())
    below = [pair for path in inner for pair in _recognised(path, depth - 1)]
    if found or not any(names for _, names in below):
        yield folder, found
    else:
        yield from below


def named(folder: str, benchmark: str) -> str:
    """The name of a benchmark of a folder."""
    return folder if folder.rpartition("/")[2].lower() == benchmark else f"{folder}/{benchmark}"


def _listed(path: Path) -> Suite:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: is no YAML that can be read ({error}).") from error
    rows = content.get("benchmarks") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{path}: expected a list `benchmarks` of {{benchmark: ..., data: ...}}.")
    entries = [_entry(path, number, row) for number, row in enumerate(rows, 1)]
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{path}: two benchmarks are called {twice[0]}; give one a `name`.")
    return Suite(entries)


def _entry(path: Path, number: int, row: Any) -> Entry:
    where = f"{path}: benchmark {number}"
    if not isinstance(row, dict) or not {"benchmark", "data"} <= row.keys():
        raise UserError(f"{where}: expected `benchmark` and `data`, found {row!r}.")
    known = {f.name for f in fields(BenchmarkSettings)} - NOT_OPTIONS
    options = {key: value for key, value in row.items() if key not in (*NOT_OPTIONS, "name")}
    for key in [*options, *(key for key in WHAT_IS_SCORED if key in row)]:
        if key not in known:
            raise UserError(f"{where}: there is no option {key}; there are {', '.join(known)}.")
    data = (path.parent / str(row["data"])).resolve()
    try:
        BenchmarkSettings(row["benchmark"], data, "random", **options)
    except (UserError, TypeError) as error:
        raise UserError(f"{where}: {error}") from error
    name = str(row.get("name") or named(data.name, row["benchmark"]))
    return Entry(name, row["benchmark"], data, options)
