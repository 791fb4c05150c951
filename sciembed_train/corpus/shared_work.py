"""Work that several processes do together: those of a job array, or of one machine.

All run the same command. One of them leads: it does everything, and what can be done in units it
offers to the others in a folder that all of them see. A unit is done by whoever locks it first, and
its result appears whole or not at all. When a process dies, its locks go with it: another one does
its unit, and if it led, another one leads and finds the units that are done.

Locks are those of the file system (``flock``): across machines it has to support them, as NFS 4,
Lustre (mounted with ``flock``) and GPFS do.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from sciembed_train.progress import Progress

POLL = 0.5  # seconds between two looks for work
FACTS = "task.json"


class Task(Protocol):
    """Work that is done in units, in any order, each of which leaves a file or folder.

    ``kind`` names the class in the table of `SharedWork`, ``name`` the task among those of a
    corpus; ``unit`` is what messages call a unit.
    """

    kind: str
    unit: str
    folder: Path

    @property
    def name(self) -> str:
        """The task's own name."""
        ...

    @property
    def units(self) -> int:
        """The number of units."""
        ...

    def result(self, unit: int) -> Path:
        """What a unit leaves."""
        ...

    def do(self, unit: int, to: Path) -> None:
        """Do a unit and leave its result at ``to``."""
        ...

    def save(self, folder: Path) -> Mapping[str, Any]:
        """Write what another process needs; what is returned is given to its `Opener`."""
        ...

    def adopt(self, facts: Mapping[str, Any]) -> None:
        """Have the units of a process that led before, which returned ``facts`` from `save`."""
        ...


# Opens a task that another process saved, from its folder and what `Task.save` returned.
Opener = Callable[[Path, Mapping[str, Any]], AbstractContextManager[Task]]
# Does a task, and returns the results of its units.
Share = Callable[[Task], Sequence[Path]]
Reach = Callable[[int, int], None]  # is told the number of units that are done, and of all


def alone(task: Task, reach: Reach | None = None) -> list[Path]:
    """Do all units of a task; ``reach`` gets the number of those done and of all."""
    task.folder.mkdir(parents=True, exist_ok=True)
    for unit in range(task.units):
        _do(task, unit)
        if reach is not None:
            reach(unit + 1, task.units)
    return [task.result(unit) for unit in range(task.units)]


def _do(task: Task, unit: int) -> None:
    """Do a unit, so that its result appears whole."""
    to = task.result(unit)
    partial = to.with_name(f".{to.name}.{socket.gethostname()}-{os.getpid()}")
    _remove(partial)
    try:
        task.do(unit, partial)
        partial.rename(to)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class SharedWork:
    """The work at one corpus that several processes share.

    Args:
        to: the corpus folder that all of them make.
        key: of the files and settings that it is made from; what is offered under another one is
            left alone.
        openers: of tasks, by their kind.
        progress: says what is done.
    """

    def __init__(
        self,
        to: Path,
        key: str,
        openers: Mapping[str, Opener],
        progress: Progress,
    ) -> None:
        self.folder = to.parent / f".{to.name}.together"
        self.tasks = self.folder / key
        self.openers, self.progress = openers, progress
        self._tasks: dict[Path, Task] = {}  # those of others that were opened here

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Wait until this process leads, and work for those that do before it.

        What was offered is removed when the block ends well.
        """
        from filelock import FileLock

        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / "lead.lock")
        with ExitStack() as opened:
            told = False
            while not _acquired(lock):
                if not told:
                    self.progress.print("Another process leads; this one takes what it offers.")
                    told = True
                if not self._help(opened):
                    time.sleep(POLL)
        try:
            yield
            shutil.rmtree(self.folder, ignore_errors=True)
        finally:
            lock.release()
            if not self.tasks.is_dir():  # it failed before anything was offered
                shutil.rmtree(self.folder, ignore_errors=True)

    def share(self, task: Task, reach: Reach | None = None) -> list[Path]:
        """Offer a task to the other processes, and do it with them; as `alone`."""
        task.folder = self._offer(task)
        while missing := _missing(task):
            if not self._do_free(task, missing, reach):
                time.sleep(POLL)
        return [task.result(unit) for unit in range(task.units)]

    def _offer(self, task: Task) -> Path:
        """The folder of a task, written whole unless one that led before has done so."""
        folder = self.tasks / task.name
        if (folder / FACTS).is_file():
            task.adopt(json.loads((folder / FACTS).read_text(encoding="utf-8")))
            return folder
        partial = self.tasks / f".{task.name}"  # only who leads writes here
        for left_behind in (partial, folder):
            shutil.rmtree(left_behind, ignore_errors=True)
        partial.mkdir(parents=True)
        facts = {"kind": task.kind, **task.save(partial)}
        (partial / FACTS).write_text(json.dumps(facts), encoding="utf-8")
        partial.rename(folder)
        return folder

    def _help(self, opened: ExitStack) -> bool:
        """Do what is free of what is offered; whether anything was."""
        for path in sorted(self.tasks.glob(f"*/{FACTS}")):
            if path not in self._tasks:
                try:
                    facts = json.loads(path.read_text(encoding="utf-8"))
                except FileNotFoundError:  # it is done, and has been removed
                    continue
                opener = self.openers[facts["kind"]]
                self._tasks[path] = opened.enter_context(opener(path.parent, facts))
            task = self._tasks[path]
            if self._do_free(task, _missing(task)):
                return True
        return False

    def _do_free(self, task: Task, units: Sequence[int], reach: Reach | None = None) -> bool:
        """Do the units that no other process does; whether there was one."""
        from filelock import FileLock

        done = 0
        for unit in units:
            lock = FileLock(task.folder / f"{unit:05d}.lock")
            if task.result(unit).exists() or not _acquired(lock):
                continue
            try:
                if task.result(unit).exists() or not (task.folder / FACTS).exists():
                    continue
                _do(task, unit)
                done += 1
            finally:
                lock.release()
            if reach is not None:
                reach(task.units - len(_missing(task)), task.units)
        if done and reach is None:
            self.progress.print(f"{task.name}: did {done} of {task.units} {task.unit}")
        return done > 0


def _missing(task: Task) -> list[int]:
    return [unit for unit in range(task.units) if not task.result(unit).exists()]


def _acquired(lock: Any) -> bool:
    """Whether a lock is this process's now; it does not wait for it."""
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True
