"""Runs of ``embed`` that are killed at random moments, and what must be true of their folder.

As a module it makes the runs: processes that are forked from one that has imported all, each of
which gets SIGKILL a random time after it has written a shard.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def run_with_kills(words, folder, kills, seed=0, pause=0.2):
    """The times after which runs were killed; the last run was let alone."""
    source = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", __name__, str(folder), str(kills), str(seed), str(pause), *words],
        env={**os.environ, "PYTHONPATH": source},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def check_whole(folder, ids):
    """No vector is missing, none comes twice, and their order is that of the input."""
    manifest = json.loads((folder / "manifest.json").read_text())
    firsts = [shard["first"] for shard in manifest["shards"]]
    assert firsts == list(range(0, len(ids), manifest["shard_size"]))
    stored = []
    for shard in manifest["shards"]:
        array = np.load(folder / f"{shard['part']}.npy", mmap_mode="r")
        lines = (folder / f"{shard['part']}.ids.txt").read_text().splitlines()
        assert len(array) == len(lines) == shard["papers"]
        assert np.abs(array).sum(1).min() > 0
        stored += lines
    assert stored == list(ids)
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == [".plan.lock"]
    return manifest


def _main(folder, kills, seed, pause, *words):
    # Imported before the forks, so that they need not do it, each for itself.
    from transformers import BertModel, BertTokenizerFast  # noqa: F401

    from sciembed_train.commands import embed
    from sciembed_train.encoder import encoder  # noqa: F401
    from sciembed_train.inference import embed_shards, embedding  # noqa: F401

    draw, times = random.Random(int(seed)), []
    for _ in range(int(kills)):
        before = _shards(folder)
        child = _forked(embed.main, words)
        started = time.monotonic()
        while _shards(folder) == before and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.005)
        time.sleep(draw.uniform(0, float(pause)))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        times.append(round(time.monotonic() - started, 3))
    child = _forked(embed.main, words)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print(json.dumps(times))


def _shards(folder):
    return len(list(Path(folder).glob("part-*.json")))


def _forked(function, words):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = function(list(words))
        finally:
            os._exit(code)
    return child


if __name__ == "__main__":
    _main(*sys.argv[1:])
