"""Run a function in several gloo processes and collect what each returns.

Importing the libraries takes longer than most of these tests. So one server a test session imports
them, and each run is a fork of it: a parent, in a session of its own, whose ranks are forks again.
The server starts no thread and imports no test.
"""

import contextlib
import functools
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300

# A request is a folder; the answers are the parent's process id, then its exit code.
_SERVER = """
import importlib, os, pickle, sys, traceback
import torch, torch.distributed as dist
import sciembed_train.training.fit
torch.set_num_threads(1)

def of_rank(rank, folder, world, module, name):
    os.environ["RANK"] = str(rank)
    dist.init_process_group("gloo", init_method="file://" + folder + "/meet", rank=rank,
                            world_size=world)
    with open(folder + "/arguments", "rb") as file:
        arguments = pickle.load(file)
    result = getattr(importlib.import_module(module), name)(*arguments)
    with open(folder + "/" + str(rank), "wb") as file:
        pickle.dump(result, file)
    dist.barrier()
    dist.destroy_process_group()

def fork(function, *arguments):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = function(*arguments) or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        # On a busy machine a thread of gloo's now and then outlives the group, and torch's own
        # clean-up then aborts the process although all is done.
        os._exit(code)
    return child

def parent(folder):
    os.setsid()
    with open(folder + "/request", "rb") as file:
        world, module, name, environment = pickle.load(file)
    os.environ.clear()
    os.environ.update(environment)
    importlib.import_module(module)  # once, for all ranks
    ranks = [fork(of_rank, rank, folder, world, module, name) for rank in range(world)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in ranks]
    print("exit codes of the ranks:", codes)
    return any(codes)

def redirected(folder):
    printed = os.open(folder + "/printed", os.O_WRONLY | os.O_CREAT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0), os.dup2(printed, 1), os.dup2(printed, 2)
    return parent(folder)

for line in sys.stdin:
    child = fork(redirected, line.rstrip())
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@functools.cache
def server() -> subprocess.Popen:
    """The process with the libraries; it ends when this process does, with its standard input."""
    return subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )


def answer(process: subprocess.Popen, seconds: float) -> int:
    """The next number the server says.

    Raises:
        TimeoutError: it said none in that time.
    """
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], seconds)[0]:
        raise TimeoutError(f"no answer in {seconds} s")
    line = process.stdout.readline()
    assert line, "the server of ranks has ended; what it said is above"
    return int(line)


def run_ranks(world: int, module: str, name: str, *arguments: Any) -> list[Any]:
    """What ``module.name(*arguments)`` returns on each of ``world`` ranks, in their order."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        (at / "arguments").write_bytes(pickle.dumps(arguments))
        environment = {**os.environ, "WORLD_SIZE": str(world)}
        (at / "request").write_bytes(pickle.dumps((world, module, name, environment)))
        process = server()
        assert process.stdin is not None
        process.stdin.write(f"{folder}\n".encode())
        parent = answer(process, SECONDS)
        try:
            code = answer(process, SECONDS)
        except TimeoutError:
            os.killpg(parent, signal.SIGKILL)
            answer(process, SECONDS)
            raise TimeoutError((at / "printed").read_text()) from None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(parent, signal.SIGKILL)  # what the ranks started and left
        assert code == 0, (at / "printed").read_text()
        return [pickle.loads((at / str(rank)).read_bytes()) for rank in range(world)]
