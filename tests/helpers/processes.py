"""Run a function in several gloo processes and collect what each returns."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# The libraries are imported once; each rank is a fork of that process, made before any thread.
_MAIN = """
import importlib, os, pickle, sys, traceback
import torch, torch.distributed as dist
torch.set_num_threads(1)
module, name, folder, world = *sys.argv[1:4], int(sys.argv[4])
function = getattr(importlib.import_module(module), name)
with open(folder + "/arguments", "rb") as file:
    pickled = file.read()

def run(rank):
    os.environ["RANK"] = str(rank)
    dist.init_process_group("gloo", init_method="file://" + folder + "/meet", rank=rank,
                            world_size=world)
    result = function(*pickle.loads(pickled))
    with open(folder + "/" + str(rank), "wb") as file:
        pickle.dump(result, file)
    dist.barrier()
    dist.destroy_process_group()

ranks = []
for rank in range(world):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(rank)
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        # On a busy machine a thread of gloo's now and then outlives the group, and torch's own
        # clean-up then aborts the process although all is done.
        os._exit(code)
    ranks.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in ranks]
print("exit codes of the ranks:", codes)
sys.exit(any(codes))
"""


def run_ranks(world: int, module: str, name: str, *arguments: Any) -> list[Any]:
    """What ``module.name(*arguments)`` returns on each of ``world`` ranks, in their order."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "arguments").write_bytes(pickle.dumps(arguments))
        ranks = subprocess.Popen(
            [sys.executable, "-c", _MAIN, module, name, folder, str(world)],
            env={**os.environ, "WORLD_SIZE": str(world)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed = ranks.communicate(timeout=300)[0]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(ranks.pid, signal.SIGKILL)
        assert ranks.returncode == 0, printed
        return [pickle.loads(Path(folder, str(r)).read_bytes()) for r in range(world)]
