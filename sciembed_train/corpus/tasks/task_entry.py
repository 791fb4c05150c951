"""One entry of a list of tasks, checked key by key.

The published control code (``ctrl_token``) or the name of a format says what the texts are embedded
for. Paths are searched from the list's folder, from the folder above it (as in SciRepEval's own),
and from the working directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.files import read_lines
from sciembed_train.corpus.readers.registry import reader_of, stem_of
from sciembed_train.corpus.tasks.task_types import TASK_SPLITS, TYPES, Source, Task, TaskSplit, Type
from sciembed_train.corpus.validation import spell
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import FORMATS

KEYS = (
    *("name", "type", "multi_label", "dataset", "data_files", "input_fields", "labels"),
    *("labels_field", "ctrl_token", "sample_size", "contrastive"),
)
# How the names of files beside the list of tasks end, after the name of the task.
SUFFIXES: dict[TaskSplit, tuple[str, ...]] = {
    "train": ("", "_train", "_small"),
    "dev": ("_dev", "_val", "_validation"),
}


class TaskEntry:
    """One entry of a list of tasks, number ``number`` from 1, read key by key.

    Raises:
        UserError: it has no name, or one that no folder can have.
    """

    def __init__(self, path: Path, number: int, entry: Mapping[str, Any]) -> None:
        self.path, self.entry = path, entry
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip():
            raise UserError(f"{path}: task {number} has no `name`.")
        self.name = name
        if any(c in self.name for c in "/\\\0") or self.name.startswith("."):
            raise self.error("the name becomes a folder's: it may hold no / and begin with no dot")

    def error(self, problem: str) -> UserError:
        """A message on this task."""
        return UserError(f"{self.path}, task {self.name!r}: {problem}.")

    def _expect(self, key: str, kind: type, expected: str, default: Any) -> Any:
        value = self.entry.get(key)
        if value is None:
            return default
        is_kind = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not is_kind:
            raise self.error(f"`{key}` is {spell(value)}; expected {expected}")
        return value

    def task(self, sources: Mapping[TaskSplit, Source]) -> Task:
        """The task, with its records in ``sources``; a `UserError` if a value is wrong."""
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
        names = self._expect("input_fields", list, "a list of names", ["title", "abstract"])
        if not names or not all(isinstance(name, str) and name for name in names):
            raise self.error("`input_fields` must be a list of one name or more")
        return tuple(names)

    def _formats(self, kind: Type) -> tuple[str, str]:
        """The format of the texts, and that of the queries."""
        code = self.entry.get("ctrl_token")
        if code is None:
            return (kind, kind) if kind in FORMATS else ("proximity", "proximity")
        if not isinstance(code, Mapping):
            return self._format(code), self._format(code)
        if set(code) != {"query", "candidates"}:
            raise self.error("`ctrl_token` has the keys query and candidates, or is one code")
        return self._format(code["candidates"]), self._format(code["query"])

    def _format(self, value: Any) -> str:
        for name, code in FORMATS.items():
            if value in (name, code):
                return name
        known = ", ".join(f"{code} ({name})" for name, code in FORMATS.items())
        raise self.error(f"`ctrl_token` is {spell(value)}; it is one of {known}")

    def _sample_size(self) -> dict[TaskSplit, int]:
        value = self.entry.get("sample_size")
        sizes = dict(value) if isinstance(value, Mapping) else dict.fromkeys(TASK_SPLITS, value)
        if unknown := set(sizes) - set(TASK_SPLITS):
            raise self.error(f"`sample_size` has the unknown key {min(map(str, unknown))!r}")
        sample_size: dict[TaskSplit, int] = {}
        for split in TASK_SPLITS:
            size = sizes.get(split)
            size = -1 if size is None else size
            least = 1 if split == "train" else 0
            is_integer = isinstance(size, int) and not isinstance(size, bool)
            if not is_integer or (size != -1 and size < least):
                expected = f"{least} or more, or -1 for all"
                raise self.error(f"`sample_size` of {split} is {spell(size)}; expected {expected}")
            sample_size[split] = size
        return sample_size

    def _labels(self) -> tuple[tuple[str, ...], str]:
        """The names of the classes, and the file or list that they come from."""
        labels = self.entry.get("labels")
        if labels is None:
            raise self.error(
                "there is no `labels`: give a file with the name of a class a line, or a list"
            )
        if isinstance(labels, list):
            names, place = [str(name) for name in labels], f"`labels` of {self.path.name}"
        elif isinstance(labels, str):
            path = self._find(labels)
            if path is None or not path.is_file():
                raise self.error(
                    f"there is no label file {labels}; searched in {self.path.parent}, above it, "
                    "and in the working directory. It has the name of a class a line"
                )
            names, place = [], str(path)
            for line, text in read_lines(path):
                if isinstance(text, BadRow):
                    raise UserError(f"{path}:{line}: {text.message}")
                names.append(text.strip())
        else:
            raise self.error(f"`labels` is {spell(labels)}; expected a file or a list of names")
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

    def sources(self, local: bool) -> dict[TaskSplit, Source]:
        """The files or datasets of the records by split.

        ``local`` looks in the list's folder alone; empty if the records are elsewhere.

        Raises:
            UserError: the entry names no data, or a missing file.
        """
        files = self._expect("data_files", dict, "files by split, {train, dev}", None)
        dataset = self._expect("dataset", dict, "an object, {path, name}", None)
        if files is not None and dataset is not None:
            raise self.error("`data_files` and `dataset` are both given; give one of them")
        if files is not None:
            return self._files(files)
        if dataset is None:
            if local and (files_beside := self._beside("")):
                return files_beside
            raise self.error("there is no data: give `data_files` {train, dev} or `dataset`")
        place, config = dataset.get("path"), dataset.get("name") or ""
        if not isinstance(place, str) or not place or not isinstance(config, str):
            raise self.error("`dataset` needs a `path`, and may have the `name` of a config")
        folder = self._find(place)
        if folder is not None and folder.is_dir():
            return {"train": Source(str(folder), True, config)}
        if local:
            return self._beside(config)
        return {"train": Source(place, True, config)}

    def _files(self, data_files: Mapping[str, Any]) -> dict[TaskSplit, Source]:
        sources: dict[TaskSplit, Source] = {}
        for key, value in data_files.items():
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
            sources[split] = Source(str(path))
        if "train" not in sources:
            raise self.error("`data_files` has no file of train")
        return sources

    def _beside(self, config: str) -> dict[TaskSplit, Source]:
        """Files beside the list that are named after the task or its dataset's config."""
        by_stem: dict[str, Path] = {}
        for path in sorted(self.path.parent.iterdir()):
            if path.is_file() and reader_of(path) is not None and path != self.path:
                by_stem.setdefault(stem_of(path), path)
        sources: dict[TaskSplit, Source] = {}
        for split, suffixes in SUFFIXES.items():
            stems = [f"{start}{end}" for start in (self.name, config) if start for end in suffixes]
            path = next((by_stem[stem] for stem in stems if stem in by_stem), None)
            if path is not None:
                sources[split] = Source(str(path))
        return sources if "train" in sources else {}
