import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from sciembed_train.training import process_identity
from sciembed_train.training.process_identity import Process

WHO = """
import json, sys
from dataclasses import asdict
from sciembed_train.training.process_identity import Process
print(json.dumps(asdict(Process.this())), flush=True)
sys.stdin.read()
"""


def test_this_process_lives_and_says_where():
    process = Process.this()
    assert (process.host, process.pid) == (socket.gethostname(), os.getpid())
    assert process.is_alive()


def test_a_killed_process_is_dead_even_before_its_parent_has_collected_it():
    import json

    child = subprocess.Popen(
        [sys.executable, "-c", WHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    process = Process(**json.loads(child.stdout.readline()))
    assert process.pid == child.pid
    assert process.is_alive()
    os.kill(child.pid, signal.SIGSTOP)
    assert process.is_alive()  # a stopped one may go on
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is a zombie
    assert process.is_alive() is False
    child.communicate()
    assert process.is_alive() is False


def test_another_process_with_the_same_number_is_not_it():
    earlier = replace(Process.this(), started="1")
    assert earlier.is_alive() is False


@pytest.mark.parametrize("other", [{"host": "elsewhere"}, {"machine": "another boot"}])
def test_of_another_machine_or_container_nothing_can_be_said(other):
    assert replace(Process.this(), **other).is_alive() is None


def test_a_process_of_another_user_that_the_system_hides_may_live(monkeypatch):
    def denied(pid, number):
        raise PermissionError

    monkeypatch.setattr(process_identity.os, "kill", denied)
    monkeypatch.setattr(process_identity, "_started", lambda pid: None)
    assert replace(Process.this(), started="5").is_alive()
