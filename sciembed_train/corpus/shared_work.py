"""Work that several processes do together: those of a job array, or of one machine.

All run the same command. One of them leads: it does everything, and offers work that consists of
units to the others in a folder that all of them see. The process that locks a unit first does it,
and the result appears whole or not at all. When a process dies, its locks are released: another
one does its unit; if it led, another one leads and finds the units that are done.

The locks are the file system's (``flock``), which has to know them on all machines.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from sciembed_train.errors import UserError
from sciembed_train.progress import Progress
from sciembed_train.whole_folder import left_behind

POLL = 0.5  # seconds between two looks for work
FACTS = "task.json"
LEAD = "lead.lock"


class Task(Protocol):
    """Work that is done in units, in any order, each of which leaves a file or a folder.

    Attributes:
        kind: names what opens the task in another process.
        name: of its folder.
        title: as messages call it.
        unit: as messages call its units.
        folder: of the units' results.
    """

    kind: str
    title: str
    unit: str
    folder: Path

    @property
    def name(self) -> str:
        """The name of its folder."""
        ...

    @property
    def units(self) -> int:
        """The number of units."""
        ...

    def do(self, unit: int, to: Path) -> None:
        """Do a unit and leave its result at ``to``."""
        ...

    def save(self, folder: Path) -> Mapping[str, Any]:
        """Write what another process needs; its `Opener` gets the facts that are returned."""
        ...

    def adopt(self, facts: Mapping[str, Any]) -> None:
        """Take over the units of an earlier leader, whose `save` returned ``facts``."""
        ...


# Opens a task that another process saved, from its folder and what `Task.save` returned.
Opener = Callable[[Path, Mapping[str, Any]], AbstractContextManager[Task]]
# Does a task, and returns the results of its units.
Share = Callable[[Task], Sequence[Path]]
Reach = Callable[[int, int], None]  # gets the number of units done, and of all


def alone(task: Task, reach: Reach | None = None) -> list[Path]:
    """Do all units of a task; ``reach`` gets the number of those done and of all."""
    task.folder.mkdir(parents=True, exist_ok=True)
    for unit in range(task.units):
        _do(task, unit)
        if reach is not None:
            reach(unit + 1, task.units)
    return _results(task)


def own_name(name: str) -> str:
    """A hidden name with this process's id; `SharedWork` removes the names of dead processes."""
    return f".{name}.{socket.gethostname()}-{os.getpid()}"


def _result(folder: Path, unit: int) -> Path:
    """Where the result of a unit lies."""
    return folder / f"{unit:05d}"


def _results(task: Task) -> list[Path]:
    return [_result(task.folder, unit) for unit in range(task.units)]


def _do(task: Task, unit: int) -> None:
    """Do a unit, so that its result appears whole."""
    to = _result(task.folder, unit)
    partial = to.with_name(own_name(to.name))
    _remove(partial)
    try:
        task.do(unit, partial)
        try:
            partial.rename(to)
        except OSError:
            if not to.exists():  # else another process did it, unseen behind a cache of NFS
                raise
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class SharedWork:
    """The work at one corpus that several processes share.

    Args:
        to: the corpus folder that all of them make.
        key: of the files and settings that it is made from; what is offered under another one is
            left alone.
        openers: of tasks, by their kind.
        progress: reports what is done.
    """

    def __init__(
        self, to: Path, key: str, openers: Mapping[str, Opener], progress: Progress
    ) -> None:
        to = Path(os.path.realpath(to))
        self.folder = to.parent / f".{to.name}.together"
        self.tasks = self.folder / key
        self.openers, self.progress = openers, progress
        self._opened: dict[Path, tuple[Task, ExitStack]] = {}  # those of another process

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Wait until this process leads; until then work for the leaders before it.

        What was offered is removed when the block ends, but stays for the next leader where the
        process is killed, or fails by a fault that may not recur.

        Raises:
            UserError: the place cannot be written, or its file system has no locks.
        """
        lock = self._wait()
        try:
            yield
            self._end()
        except UserError:  # it would recur
            self._end()
            raise
        finally:
            if not self.tasks.is_dir():
                self._remove_folder()
            lock.give_up()

    def share(self, task: Task, reach: Reach | None = None) -> list[Path]:
        """Offer a task to the other processes and do it with them; returns as `alone`."""
        task.folder = self._offer(task)
        while missing := _missing(task.folder, task.units):
            waits = True
            for _ in self._do_free(task, missing):
                waits = False
                if reach is not None:
                    reach(task.units - len(_missing(task.folder, task.units)), task.units)
            if waits:
                time.sleep(POLL)
        if reach is not None:
            reach(task.units, task.units)
        return _results(task)

    def _wait(self) -> Lock:
        """Take the leader's lock; until it is free, do what others offer."""
        lock, told = Lock(self.folder / LEAD), False
        try:
            while True:
                try:
                    self.folder.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise UserError(
                        f"{self.folder} cannot be written: {error.strerror or error}. Give a "
                        "folder that can."
                    ) from error
                if lock.take():
                    return lock
                if not told:
                    self.progress.print("Another process leads; this one takes what it offers.")
                    told = True
                if not self._help():
                    time.sleep(POLL)
        finally:
            for path in list(self._opened):
                self._close(path)

    def _end(self) -> None:
        """Remove what was offered, first the files that announce it, so that nobody begins it."""
        for path in self.tasks.glob(f"*/{FACTS}"):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.tasks, ignore_errors=True)

    def _remove_folder(self) -> None:
        """Remove the folder unless it holds something under another key."""
        with suppress(OSError):  # another process has just made its lock there, or removed it
            if not any(path.is_dir() for path in self.folder.iterdir()):
                (self.folder / LEAD).unlink(missing_ok=True)
                self.folder.rmdir()

    def _offer(self, task: Task) -> Path:
        """The folder of a task, written whole unless an earlier leader has done so."""
        folder = self.tasks / task.name
        if (folder / FACTS).is_file():
            task.adopt(json.loads((folder / FACTS).read_text(encoding="utf-8")))
            before = task.units - len(_missing(folder, task.units))
            self.progress.print(
                f"{task.title}: {before} of {task.units} {task.unit} are done, of a process that "
                "led before"
            )
            sweep_own_names(folder)
            return folder
        partial = self.tasks / f".{task.name}"  # only who leads writes here
        for unfinished in (partial, folder):
            shutil.rmtree(unfinished, ignore_errors=True)
        partial.mkdir(parents=True)
        facts = {"kind": task.kind, "units": task.units, **task.save(partial)}
        (partial / FACTS).write_text(json.dumps(facts), encoding="utf-8")
        partial.rename(folder)
        return folder

    def _help(self) -> bool:
        """Do the free units of offered tasks; whether there were any."""
        for path in sorted(self.tasks.glob(f"[!.]*/{FACTS}")):
            try:
                if self._help_with(path):
                    return True
            except FileNotFoundError:
                if path.exists():
                    raise
                self._close(path)  # all is done, and has been removed
        return False

    def _help_with(self, path: Path) -> bool:
        folder, facts = path.parent, json.loads(path.read_text(encoding="utf-8"))
        missing = _missing(folder, facts["units"])
        if not missing:
            self._close(path)
            return False
        if path not in self._opened:
            if not any(_is_free(folder, unit) for unit in missing):
                return False
            stack = ExitStack()
            task = stack.enter_context(self.openers[facts["kind"]](folder, facts))
            self._opened[path] = task, stack
        task, _ = self._opened[path]
        done = 0
        for done in self._do_free(task, missing):
            self.progress.print(f"{task.title}: did {done} of {task.units} {task.unit}")
        return done > 0

    def _close(self, path: Path) -> None:
        if path in self._opened:
            self._opened.pop(path)[1].close()

    def _do_free(self, task: Task, units: Sequence[int]) -> Iterator[int]:
        """Do the units that no other process does; yields after each how many were done here."""
        done = 0
        for unit in units:
            lock = _unit_lock(task.folder, unit)
            if _result(task.folder, unit).exists() or not lock.take():
                continue
            try:
                if _result(task.folder, unit).exists() or not (task.folder / FACTS).exists():
                    continue
                _do(task, unit)
            finally:
                lock.give_up()
            done += 1
            yield done


def remove_abandoned(to: Path) -> None:
    """Remove what processes that made ``to`` together left, unless one of them is at work."""
    work = SharedWork(to, "", {}, Progress(quiet=True))
    lock = Lock(work.folder / LEAD)
    if work.folder.is_dir() and lock.take():
        shutil.rmtree(work.folder, ignore_errors=True)
        lock.give_up()


def _missing(folder: Path, units: int) -> list[int]:
    return [unit for unit in range(units) if not _result(folder, unit).exists()]


def _unit_lock(folder: Path, unit: int) -> Lock:
    return Lock(folder / f"{unit:05d}.lock")


def _is_free(folder: Path, unit: int) -> bool:
    lock = _unit_lock(folder, unit)
    if not lock.take():
        return False
    lock.give_up()
    return True


def sweep_own_names(folder: Path) -> None:
    """Remove what dead processes had under an `own_name`."""
    for path in folder.glob(".*-*"):
        host, _, pid = path.name.rpartition(".")[2].rpartition("-")
        if pid.isdigit() and left_behind(path, host, int(pid)):
            _remove(path)


class Lock:
    """A file that one process at a time has locked; the system gives it up with its process.

    Args:
        path: of the file, which is made; its folder is not.
        needed_by: what needs the lock, for messages.
    """

    def __init__(self, path: Path, needed_by: str = "--together") -> None:
        self.path, self.needed_by = path, needed_by
        self._file: int | None = None

    def take(self) -> bool:
        """Take the lock if it is free, without waiting; whether this process has it now.

        Raises:
            UserError: the file system has no locks.
        """
        try:
            import fcntl
        except ImportError as error:
            raise UserError(
                f"{self.needed_by} needs flock, which this system does not have."
            ) from error
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # its folder has been removed
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_nlink:  # else it was removed before it was locked
                self._file, file = file, -1
                return True
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                raise
            raise UserError(
                f"{self.path.parent}: {self.needed_by} needs locks (flock), which this file system "
                f"does not have ({error.strerror}). Put the folder on one that has."
            ) from error
        finally:
            if file >= 0:
                os.close(file)
        return False

    def give_up(self) -> None:
        """Let another process take it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
