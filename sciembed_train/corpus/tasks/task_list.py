"""The list of tasks that a user gives: SciRepEval's ``tasks_config.json``, or the same in YAML.

The file is a list of objects, one a task. What its texts are read for is said by the published
control code (``ctrl_token``) or by the format's name. Places in it are looked for from the list's
folder on, from the folder above it (as in SciRepEval's own), and from here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.files import read_lines
from sciembed_train.corpus.readers.registry import reader_of, stem_of
from sciembed_train.corpus.tasks.task_types import TASK_SPLITS, TYPES, Source, Task, TaskSplit, Type
from sciembed_train.corpus.validation import spell
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import FORMATS

NAMES = ("tasks_config.json", "tasks.json", "tasks.yaml", "tasks.yml")
KEYS = (
    *("name", "type", "multi_label", "dataset", "data_files", "input_fields", "labels"),
    *("labels_field", "ctrl_token", "sample_size", "contrastive"),
)
# How files of a task are called that lie beside the list of tasks.
ENDS: dict[TaskSplit, tuple[str, ...]] = {
    "train": ("", "_train", "_small"),
    "dev": ("_dev", "_val", "_validation"),
}


@dataclass(frozen=True)
class TaskList:
    """The tasks of a file.

    Args:
        tasks: in the order of the file.
        path: the file.
        left_out: tasks of a folder that have no data in it.
        notes: what of the file is not used.
    """

    tasks: tuple[Task, ...]
    path: Path
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_tasks(place: str | Path) -> TaskList:
    """The tasks of a JSON or YAML file, or of the one in a folder.

    Of a folder those tasks are taken that have data in it: their ``data_files``, a dataset that is
    a folder there, or files called after the task or its dataset's config (``mesh.jsonl``,
    ``mesh_train.jsonl``, ``mesh_small.json``; ``mesh_dev.jsonl`` is held out).

    Raises:
        UserError: there is no such file, or what it says of a task cannot be.
    """
    path = Path(place)
    whole = path.is_dir()
    if whole:
        found = [path / name for name in NAMES if (path / name).is_file()]
        if not found:
            raise UserError(f"{path} holds no list of tasks; expected {' or '.join(NAMES)}.")
        path = found[0]
    elif not path.is_file():
        raise UserError(f"{path}: there is no such file (a list of tasks).")
    entries = _load(path)
    tasks: list[Task] = []
    left_out: list[str] = []
    unread: dict[str, list[str]] = {}
    for number, entry in enumerate(entries, 1):
        reader = _Entry(path, number, entry)
        if reader.name in {task.name for task in tasks} | set(left_out):
            raise reader.error("the name is another task's too; every task has its own")
        for key in entry.keys() - set(KEYS):
            unread.setdefault(str(key), []).append(reader.name)
        sources = reader.sources(whole)
        if sources:
            tasks.append(reader.task(sources))
        else:
            left_out.append(reader.name)
    if not tasks:
        raise UserError(
            f"{path.parent} holds the data of not one of its {len(left_out)} tasks "
            f"({', '.join(left_out)}). Put their files beside {path.name}, called after the task "
            f"({left_out[0]}.jsonl), or give {path} itself to fetch the datasets that it names."
        )
    notes = [f"{path.name}: `{key}` is not read ({', '.join(unread[key])})." for key in unread]
    if left_out:
        notes.append(f"Tasks of {path.name} without data in its folder: {', '.join(left_out)}.")
    return TaskList(tuple(tasks), path, tuple(left_out), tuple(notes))


def _load(path: Path) -> list[dict[str, Any]]:
    """The entries of a list of tasks."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() in (".yaml", ".yml"):
            import yaml

            try:
                found = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
        else:
            found = json.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: this is not JSON: {error.msg}.") from error
    if isinstance(found, dict) and isinstance(found.get("tasks"), list):
        found = found["tasks"]
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise UserError(f"{path} is no list of tasks: expected a list of objects with a name.")
    if not found:
        raise UserError(f"{path} names no task.")
    return found


class _Entry:
    """One entry of a list of tasks, read key by key."""

    def __init__(self, path: Path, number: int, entry: Mapping[str, Any]) -> None:
        self.path, self.entry = path, entry
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{path}: task {number} has no `name`.")
        self.name = name
        if any(c in self.name for c in "/\\\0") or self.name.startswith("."):
            raise self.error("the name becomes a folder's: it may hold no / and begin with no dot")

    def error(self, what: str) -> UserError:
        return UserError(f"{self.path}, task {self.name!r}: {what}.")

    def _expect(self, key: str, kind: type, told: str, default: Any) -> Any:
        value = self.entry.get(key)
        if value is None:
            return default
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not right:
            raise self.error(f"`{key}` is {spell(value)}; expected {told}")
        return value

    def task(self, sources: Mapping[TaskSplit, Source]) -> Task:
        kind = self.entry.get("type")
        if kind not in TYPES:
            raise self.error(f"`type` is {spell(kind)}; it is one of {', '.join(TYPES)}")
        multi_label = self._expect("multi_label", bool, "true or false", False)
        contrastive = self._expect("contrastive", bool, "true or false", False)
        if kind != "classification" and (multi_label or contrastive):
            key = "multi_label" if multi_label else "contrastive"
            raise self.error(f"`{key}` is for a classification, and the type is {kind}")
        if multi_label and contrastive:
            raise self.error("`contrastive` is for texts of one class each; leave one of them out")
        names, labels_from = self._labels() if kind == "classification" else ((), "")
        format, query_format = self._formats(kind)
        if kind in ("classification", "regression") and format != query_format:
            raise self.error(f"a {kind} has no queries: `ctrl_token` is one code")
        default = "score" if kind == "ir" else "label"
        return Task(
            name=self.name,
            type=kind,
            format=format,
            query_format=query_format,
            sources=sources,
            fields=self._fields(),
            labels=names,
            labels_from=labels_from,
            labels_field=self._expect("labels_field", str, "the name of a field", default),
            multi_label=multi_label,
            contrastive=contrastive,
            sample_size=self._sample_size(),
        )

    def _fields(self) -> tuple[str, ...]:
        found = self._expect("input_fields", list, "a list of names", ["title", "abstract"])
        if not found or not all(isinstance(name, str) and name for name in found):
            raise self.error("`input_fields` must be a list of one name or more")
        return tuple(found)

    def _formats(self, kind: Type) -> tuple[str, str]:
        """Of texts, and of queries."""
        given = self.entry.get("ctrl_token")
        if given is None:
            return (kind, kind) if kind in FORMATS else ("proximity", "proximity")
        if not isinstance(given, Mapping):
            return self._format(given), self._format(given)
        if set(given) != {"query", "candidates"}:
            raise self.error("`ctrl_token` has the keys query and candidates, or is one code")
        return self._format(given["candidates"]), self._format(given["query"])

    def _format(self, value: Any) -> str:
        for name, code in FORMATS.items():
            if value in (name, code):
                return name
        known = ", ".join(f"{code} ({name})" for name, code in FORMATS.items())
        raise self.error(f"`ctrl_token` is {spell(value)}; it is one of {known}")

    def _sample_size(self) -> dict[TaskSplit, int]:
        given = self.entry.get("sample_size")
        sizes = dict(given) if isinstance(given, Mapping) else dict.fromkeys(TASK_SPLITS, given)
        if unknown := set(sizes) - set(TASK_SPLITS):
            raise self.error(f"`sample_size` has the unknown key {min(map(str, unknown))!r}")
        found: dict[TaskSplit, int] = {}
        for split in TASK_SPLITS:
            size = sizes.get(split)
            size = -1 if size is None else size
            least = 1 if split == "train" else 0
            whole = isinstance(size, int) and not isinstance(size, bool)
            if not whole or (size != -1 and size < least):
                expected = f"{least} or more, or -1 for all"
                raise self.error(f"`sample_size` of {split} is {spell(size)}; expected {expected}")
            found[split] = size
        return found

    def _labels(self) -> tuple[tuple[str, ...], str]:
        """The names of the classes, and where they stand."""
        given = self.entry.get("labels")
        if given is None:
            raise self.error(
                "there is no `labels`: give a file with the name of a class a line, or a list"
            )
        if isinstance(given, list):
            names, place = [str(name) for name in given], f"`labels` of {self.path.name}"
        elif isinstance(given, str):
            path = self._find(given)
            if path is None or not path.is_file():
                raise self.error(
                    f"there is no label file {given}; looked for in {self.path.parent}, above it, "
                    "and here. It has the name of a class a line"
                )
            names, place = [], str(path)
            for line, text in read_lines(path):
                if isinstance(text, BadRow):
                    raise UserError(f"{path}:{line}: {text.message}")
                names.append(text.strip())
        else:
            raise self.error(f"`labels` is {spell(given)}; expected a file or a list of names")
        if len(names) < 2:
            raise self.error(
                f"{place} names {len(names)} classes; a classification has two or more"
            )
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise self.error(f"{place} names the class {twice!r} twice")
        return tuple(names), place

    def _find(self, name: str) -> Path | None:
        """A file or folder that the list names."""
        base = self.path.parent
        places = (base / name, base.parent / name, Path(name), base / Path(name).name)
        return next((place for place in places if place.exists()), None)

    def sources(self, whole: bool) -> dict[TaskSplit, Source]:
        """Where the records lie; nowhere for a dataset of the hub when ``whole`` is said.

        Args:
            whole: whether all data lies in the list's folder.
        """
        files = self._expect("data_files", dict, "files by split, {train, dev}", None)
        dataset = self._expect("dataset", dict, "an object, {path, name}", None)
        if files is not None and dataset is not None:
            raise self.error("`data_files` and `dataset` are both given; give one of them")
        if files is not None:
            return self._files(files)
        if dataset is None:
            if whole and (local := self._beside("")):
                return local
            raise self.error("there is no data: give `data_files` {train, dev} or `dataset`")
        place, config = dataset.get("path"), dataset.get("name") or ""
        if not isinstance(place, str) or not place or not isinstance(config, str):
            raise self.error("`dataset` needs a `path`, and may have the `name` of a config")
        folder = self._find(place)
        if folder is not None and folder.is_dir():
            return {"train": Source(str(folder), True, config)}
        if whole:
            return self._beside(config)
        return {"train": Source(place, True, config)}

    def _files(self, given: Mapping[str, Any]) -> dict[TaskSplit, Source]:
        found: dict[TaskSplit, Source] = {}
        for key, value in given.items():
            split = "dev" if key == "validation" else key
            if split not in TASK_SPLITS:
                raise self.error(f"`data_files` has the unknown key {key!r}; it has train and dev")
            if value is None:
                continue
            if not isinstance(value, str):
                raise self.error(f"`data_files` of {key} is {spell(value)}; expected a file")
            path = self._find(value)
            if path is None:
                raise self.error(f"{value}: there is no such file ({key})")
            found[split] = Source(str(path))
        if "train" not in found:
            raise self.error("`data_files` has no file of train")
        return found

    def _beside(self, config: str) -> dict[TaskSplit, Source]:
        """Files beside the list that are called after the task or its dataset's config."""
        by_stem: dict[str, Path] = {}
        for path in sorted(self.path.parent.iterdir()):
            if path.is_file() and reader_of(path) is not None and path != self.path:
                by_stem.setdefault(stem_of(path), path)
        found: dict[TaskSplit, Source] = {}
        for split, ends in ENDS.items():
            names = [f"{start}{end}" for start in (self.name, config) if start for end in ends]
            path = next((by_stem[name] for name in names if name in by_stem), None)
            if path is not None:
                found[split] = Source(str(path))
        return found if "train" in found else {}
