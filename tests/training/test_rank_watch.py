"""Ranks that die or hang, in real processes: who it was is said first, and nobody is left."""

import os
import re
import subprocess
import sys

import pytest

from sciembed_train import distributed
from sciembed_train.training.rank_watch import RankWatch, place
from tests.helpers.runs import finish, start

LAST = "last.ckpt is as it was. Continue with --ckpt_path last.\n"


def fail(toy, how, rank, processes=2, *more):
    """The exit code of a run of which one rank fails in step 9, and what was said."""
    name = f"{how}{rank}of{processes}"
    words = toy.arguments("--run", name, "--trainer.devices", str(processes), *more)
    at = words.index("--data.batch_size")
    words[at + 1] = str(4 * processes)
    failing = {"": "tests.helpers.runs.FailAt", ".rank": rank, ".step": 8, ".how": how}
    for key, value in failing.items():
        words += [f"--trainer.callbacks{key}", str(value)]
    code, said = finish(start("fit", *words), timeout=300)
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert str(toy.root) not in listed, "a process was left behind"
    return code, said


@pytest.mark.slow
def test_a_rank_that_is_killed_is_named_first(toy):
    code, said = fail(toy, "kill", 1)
    assert code == 1
    assert re.fullmatch(
        r"\S+ fit: rank 1 \(host \S+, pid \d+\) died first, in step 9, killed \(SIGKILL\), as the "
        r"system does where memory runs out\. " + LAST,
        said,
    )
    assert not (toy.root / "kill1of2" / "run.lock").exists()


@pytest.mark.slow
def test_the_first_rank_is_named_by_the_next(toy):
    code, said = fail(toy, "kill", 0, 3)
    assert code == -9
    assert re.fullmatch(
        r"\S+ fit: rank 0 \(host \S+, pid \d+\) died first, in step 9, without a message: killed, "
        r"as the system does where memory runs out, or crashed\. " + LAST,
        said,
    )


@pytest.mark.slow
def test_the_message_of_a_rank_that_cannot_go_on_is_repeated(toy):
    code, said = fail(toy, "refuse", 1, 3)
    assert code == 1
    own, repeated = said.splitlines(keepends=True)
    assert own.endswith("fit: this file is damaged\n")
    assert re.fullmatch(
        r"\S+ fit: rank 1 \(host \S+, pid \d+\) ended first, in step 9: this file is damaged\. "
        + LAST,
        repeated,
    )


@pytest.mark.slow
def test_a_traceback_is_of_the_rank_that_failed(toy):
    code, said = fail(toy, "raise", 1)
    assert code == 1
    assert said.count("Traceback (most recent call last)") == 1
    assert "gloo" not in said
    assert re.search(r"rank 1 \(.*\) ended first, in step 9: ValueError: this rank fails\. ", said)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "rank", "code", "why"),
    [
        ("stop", 1, 1, "has sent no sign of life for"),
        ("stop", 0, -9, "has sent no sign of life for"),
        ("sleep", 1, 1, "has kept the others waiting for"),
    ],
)
def test_a_rank_that_hangs_is_named_and_ended(toy, how, rank, code, why):
    ended, said = fail(toy, how, rank, 2, "--trainer.rank_timeout", "8")
    assert ended == code
    assert re.fullmatch(
        rf"\S+ fit: rank {rank} \(host \S+, pid \d+\) {why} .* waits for it making step 9.*"
        r"trainer\.rank_timeout is 8 s, so the run ends\. " + LAST,
        said,
    )
    if how == "sleep":  # where it hangs
        assert "last seen between steps, before step 9, at helpers/runs.py" in said


@pytest.mark.slow
def test_a_rank_that_ends_before_training_ends_the_others(toy):
    # The second rank finds another configuration, as on a machine with another disk.
    code = (
        "import os, sys\n"
        "if os.environ.get('LOCAL_RANK'): sys.exit(3)\n"
        "from sciembed_train.cli import main\n"
        "sys.exit(main())\n"
    )
    script = toy.root.parent / "program.py"
    script.write_text(code)
    words = toy.arguments("--run", "ends_before", "--trainer.devices", "2")
    done = subprocess.run(
        [sys.executable, str(script), "fit", *words],
        env={**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 3
    assert done.stderr.endswith(
        "fit: rank 1 ended, with exit code 3; what it printed stands above.\n"
    )


def test_a_lost_connection_is_told_from_other_errors():
    gloo = RuntimeError("[/x/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed")
    assert distributed.lost_connection(gloo)
    assert not distributed.lost_connection(RuntimeError("mat1 and mat2 shapes"))
    assert not distributed.lost_connection(ValueError("gloo/"))


def test_one_process_alone_writes_no_records(tmp_path):
    watch = RankWatch(tmp_path / "run", 1.0)
    watch.start()
    watch.step_began(0)
    watch.step_ended(1)
    watch.failed(ValueError("x"))
    watch.stop()
    assert watch.reason is None
    assert not list(tmp_path.iterdir())


def test_a_place_is_a_line_and_the_line_of_ours_that_led_there():
    code = compile("def library(call): return call()", "/site-packages/torch/nn/layer.py", "exec")
    names: dict = {}
    exec(code, names)
    inner = compile("def leaf(): return sys._getframe()", "/site-packages/torch/add.py", "exec")
    exec(inner, {**names, "sys": sys}, names)
    ours = compile("def ours(): return library(leaf)", "/x/sciembed_train/losses/x.py", "exec")
    exec(ours, names)
    assert place(names["ours"]()) == "torch/add.py:1 (leaf), from losses/x.py:1 (ours)"
    assert place(None) == ""
