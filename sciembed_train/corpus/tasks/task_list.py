"""The list of tasks that a user gives: SciRepEval's ``tasks_config.json``, or the same in YAML.

The file is a list of objects, one a task; `task_entry` reads one of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sciembed_train.corpus.tasks.task_entry import KEYS, TaskEntry
from sciembed_train.corpus.tasks.task_types import Task
from sciembed_train.errors import UserError, why_no_file

NAMES = ("tasks_config.json", "tasks.json", "tasks.yaml", "tasks.yml")


@dataclass(frozen=True)
class TaskList:
    """The tasks of a file in its order, and notes on what is not used of it.

    ``without_data`` are the tasks of a folder that have no data in it.
    """

    tasks: tuple[Task, ...]
    path: Path
    without_data: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_tasks(source: str | Path) -> TaskList:
    """The tasks of a JSON or YAML file, or of the one in a folder.

    Of a folder only the tasks with data in it are read: their ``data_files``, a dataset that is
    a folder there, or files called after the task or its dataset's config (``mesh.jsonl``,
    ``mesh_train.jsonl``, ``mesh_small.json``; ``mesh_dev.jsonl`` is held out).

    Raises:
        UserError: there is no such file, or an entry is wrong.
    """
    path = Path(source)
    is_folder = path.is_dir()
    if is_folder:
        lists = [path / name for name in NAMES if (path / name).is_file()]
        if not lists:
            raise UserError(f"{path} holds no list of tasks; expected {' or '.join(NAMES)}.")
        path = lists[0]
    elif not path.is_file():
        raise UserError(f"{path}: {why_no_file(path)} (a list of tasks).")
    entries = _load(path)
    tasks: list[Task] = []
    without_data: list[str] = []
    unread: dict[str, list[str]] = {}
    for number, entry in enumerate(entries, 1):
        reader = TaskEntry(path, number, entry)
        if reader.name in {task.name for task in tasks} | set(without_data):
            raise reader.error("the name is another task's too; every task has its own")
        for key in entry.keys() - set(KEYS):
            unread.setdefault(str(key), []).append(reader.name)
        sources = reader.sources(is_folder)
        if sources:
            tasks.append(reader.task(sources))
        else:
            without_data.append(reader.name)
    if not tasks:
        raise UserError(
            f"{path.parent} holds the data of not one of its {len(without_data)} tasks "
            f"({', '.join(without_data)}). Put their files beside {path.name}, named after the "
            f"task ({without_data[0]}.jsonl), or give {path} itself to fetch the datasets that it "
            "names."
        )
    notes = [f"{path.name}: `{key}` is not read ({', '.join(unread[key])})." for key in unread]
    if without_data:
        notes.append(f"Tasks of {path.name} without data in its folder: {', '.join(without_data)}.")
    return TaskList(tuple(tasks), path, tuple(without_data), tuple(notes))


def _load(path: Path) -> list[dict[str, Any]]:
    """The entries of a list of tasks."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() in (".yaml", ".yml"):
            import yaml

            try:
                entries = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
        else:
            entries = json.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: this is not JSON: {error.msg}.") from error
    if isinstance(entries, dict) and isinstance(entries.get("tasks"), list):
        entries = entries["tasks"]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path} is no list of tasks: expected a list of objects with a name.")
    if not entries:
        raise UserError(f"{path} names no task.")
    return entries
