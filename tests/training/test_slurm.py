"""The job of configs/machine/slurm.sbatch, with a `srun` that starts its tasks on this machine."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from tests.helpers.runs import ROOT, finish, losses, wait_for_step

JOB = ROOT / "configs" / "machine" / "slurm.sbatch"

# As srun does: every task learns its place, and the worst code is the step's. Options come first.
SRUN = """#!/bin/bash
[[ " $* " == *" --cpus-per-task=$SLURM_CPUS_PER_TASK "* ]] || exit 3  # it takes none by itself
while [[ $1 == --* ]]; do shift; done
for task in $(seq 0 $((SLURM_NTASKS - 1))); do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NODEID=0 "$@" &
    echo $! >> pids
done
worst=0
for task in $(jobs -p); do wait "$task" || { code=$?; ((code > worst)) && worst=$code; }; done
exit $worst
"""
TRAIN = f"""#!/bin/bash
exec {sys.executable} -m sciembed_train.cli "$@"
"""


def submit(folder, *words):
    """The job as `sbatch` runs it: in the folder it was submitted from, told of by variables."""
    (folder / "bin").mkdir(exist_ok=True)
    for path, text in ((folder / "bin" / "srun", SRUN), (folder / "train", TRAIN)):
        path.write_text(text)
        path.chmod(0o755)
    if not (folder / "configs").exists():
        (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "pids").write_text("")
    told = {
        "SLURM_JOB_ID": str(10_000 + os.getpid() % 10_000),
        "SLURM_JOB_NAME": "sciembed",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODELIST": "localhost",
        "SLURM_CPUS_PER_TASK": "1",
    }
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    source = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        ["bash", str(JOB), *words],
        cwd=folder,
        env={**os.environ, **told, "PATH": path, "PYTHONPATH": source, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_the_job_is_a_bash_script_that_asks_for_what_its_machine_file_says():
    assert subprocess.run(["bash", "-n", str(JOB)], check=False).returncode == 0
    asked = JOB.read_text()
    machine = (JOB.parent / "slurm.yaml").read_text()
    assert "#SBATCH --nodes=2" in asked
    assert "num_nodes: 2" in machine
    assert "#SBATCH --ntasks-per-node=8" in asked
    assert "devices: 8" in machine


@pytest.mark.slow
def test_a_job_of_two_tasks_trains_together_and_saves_itself_on_sigterm(toy, tmp_path):
    here = ["--trainer.devices", "2", "--trainer.num_nodes", "1", "--trainer.max_epochs", "4000"]
    process = submit(tmp_path, *toy.arguments("--run", "job", *here))
    run = toy.root / "job"
    wait_for_step(process, run, 3)
    for task in (tmp_path / "pids").read_text().split():
        os.kill(int(task), signal.SIGTERM)  # SLURM signals every task of a step
    code, said = finish(process)
    assert code == 143, said
    assert said.count("continue with --ckpt_path last") == 1
    saved = torch.load(run / "last.ckpt", weights_only=True)
    assert saved["sciembed"]["training"]["steps"] == max(losses(run))
    made = max(losses(run))
    more = ["--trainer.max_steps", str(made + 2), "--ckpt_path", "last"]
    code, said = finish(submit(tmp_path, *toy.arguments("--run", "job", *here, *more)))
    assert code == 0, said
    assert sorted(losses(run)) == list(range(1, made + 3))
