"""Which process one is, so that another can tell later whether it still runs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class Process:
    """A process, and what keeps it apart from a later one with the same number.

    Args:
        host: the machine's name.
        machine: its present boot and, of a container, its own list of processes. Two containers
            may have one name, and number their processes from 1 each. Empty where unknown.
        pid: the process's number.
        started: when, as the system writes it; None where it does not say.
    """

    host: str
    machine: str
    pid: int
    started: str | None

    @classmethod
    def this(cls) -> Process:
        """The one that asks."""
        pid = os.getpid()
        return cls(socket.gethostname(), _machine(), pid, _started(pid))

    def is_alive(self) -> bool | None:
        """Whether it runs; None where that cannot be asked, as on another machine."""
        if (self.host, self.machine) != (socket.gethostname(), _machine()):
            return None
        if os.name != "posix":  # a process cannot be asked about without being sent a signal
            return None
        started = _started(self.pid)
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # of another user, and /proc may hide it
            return started in (None, self.started)
        # None also of one that only waits to be collected by its parent.
        return started == self.started


def _machine() -> str:
    """The boot and the list of processes that numbers of processes belong to."""
    try:
        return f"{_BOOT.read_text().strip()} {os.readlink(_NAMESPACE)}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process started; None of one that has ended, or where the system does not say."""
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        # The name in brackets may hold spaces and brackets; the state is the first field after it,
        # the start in clock ticks since boot the twentieth.
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    if os.name != "posix":
        return None
    asked = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = asked.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()
