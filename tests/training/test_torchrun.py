"""`torchrun` as it is installed, on two gloo processes of this machine."""

import os
import subprocess
import sys

import pytest

from sciembed_train.commands import fit
from sciembed_train.config.run_settings import RunSettings
from tests.helpers.runs import ROOT, finish, losses

TRAIN = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(ROOT)!r})
from sciembed_train.cli import main
sys.exit(main())
"""


def torchrun(folder, *words, between=()):
    program = folder / "train"
    program.write_text(TRAIN)
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29713"]
    return subprocess.Popen(
        [sys.executable, *launcher, *between, str(program), *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def words_of(toy, *more):
    """The toy's words without devices: they are torchrun's."""
    words = toy.arguments(*more)
    at = words.index("--trainer.devices")
    return [*words[:at], *words[at + 2 :]]


def test_torchruns_own_parser_leaves_our_options_to_us():
    from torch.distributed.run import get_args_parser

    words = ["fit", "-c", "specter", "--trainer.max_steps", "2", "--data.corpus", "c", "--quiet"]
    line = ["--nproc_per_node", "2", "./train", *words, "--name", "x"]
    read = get_args_parser().parse_args(line)
    assert read.training_script_args == [*words, "--name", "x"]
    read = get_args_parser().parse_args(["--nproc_per_node", "2", "--", "./train", "--run", "x"])
    assert [read.training_script, *read.training_script_args][-2:] == ["--run", "x"]


def test_no_option_but_run_is_the_beginning_of_one_of_torchruns():
    from torch.distributed.run import get_args_parser

    theirs = [name for a in get_args_parser()._actions for name in a.option_strings]
    ours = [name for option in fit.command_line().options() for name in option.names]
    taken = {name for name in ours for their in theirs if their.startswith(name)}
    assert taken - {"-c", "--run"} == set()


def test_name_is_another_spelling_of_run(toy):
    line = fit.command_line()
    for word in (["--name", "x"], ["--name=x"], ["--run", "x"]):
        assert line.read(toy.arguments(*word)).get(RunSettings).run == "x"


@pytest.mark.slow
def test_two_processes_of_torchrun_train_together_without_trainer_devices(toy, tmp_path):
    more = ["--trainer.max_steps", "4"]
    code, said = finish(torchrun(tmp_path, "fit", *words_of(toy, "--name", "two", *more)))
    assert code == 0, said
    assert sorted(losses(toy.root / "two")) == [1, 2, 3, 4]
    one = toy.arguments("--run", "one", *more)
    assert fit.main(one) == 0
    found, expected = losses(toy.root / "two"), losses(toy.root / "one")
    # Dropout is drawn by process; the first loss is before any step and near.
    assert abs(float(found[1]) - float(expected[1])) < 0.2


@pytest.mark.slow
def test_the_run_may_be_named_by_run_after_two_dashes(toy, tmp_path):
    words = words_of(toy, "--run", "dashes", "--trainer.max_steps", "2")
    code, said = finish(torchrun(tmp_path, "fit", *words, between=["--"]))
    assert code == 0, said
    assert sorted(losses(toy.root / "dashes")) == [1, 2]


@pytest.mark.slow
def test_other_devices_than_torchrun_has_started_end_with_one_message(toy, tmp_path):
    words = toy.arguments("--name", "refused")  # --trainer.devices 1
    code, said = finish(torchrun(tmp_path, "fit", *words))
    assert code != 0
    assert "torchrun started 2 processes, and trainer.devices=1" in said
    assert not (toy.root / "refused").exists()
