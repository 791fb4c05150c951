"""Run a function in several gloo processes and collect what each returns."""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

_MAIN = """
import importlib, os, pickle, sys
import torch, torch.distributed as dist
torch.set_num_threads(1)
module, name, folder = sys.argv[1:4]
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
dist.init_process_group("gloo", init_method="file://" + folder + "/meet", rank=rank,
                        world_size=world)
with open(folder + "/arguments", "rb") as file:
    arguments = pickle.load(file)
found = getattr(importlib.import_module(module), name)(*arguments)
with open(folder + "/" + str(rank), "wb") as file:
    pickle.dump(found, file)
dist.barrier()
dist.destroy_process_group()
sys.stdout.flush()
# On a busy machine a thread of gloo's now and then outlives the group, and torch's own clean-up
# then aborts the process although all is done.
os._exit(0)
"""


def run_ranks(world: int, module: str, name: str, *arguments: Any) -> list[Any]:
    """What ``module.name(*arguments)`` returns on each of ``world`` ranks, in their order."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "arguments").write_bytes(pickle.dumps(arguments))
        ranks = [
            subprocess.Popen(
                [sys.executable, "-c", _MAIN, module, name, folder],
                env={**os.environ, "RANK": str(r), "WORLD_SIZE": str(world)},
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for r in range(world)
        ]
        said = []
        try:
            said = [rank.communicate(timeout=300)[0] for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
        codes = [rank.returncode for rank in ranks]
        assert codes == [0] * world, "\n".join(said)
        return [pickle.loads(Path(folder, str(r)).read_bytes()) for r in range(world)]
