"""Collectives in real gloo processes. The functions named ``on_a_rank...`` run in each of them."""

import warnings

import pytest
import torch
import torch.distributed as dist
from torch import nn

from sciembed_train import distributed
from sciembed_train.errors import UserError
from tests.helpers.processes import run_ranks

HERE = "tests.test_distributed"
WIDTH, ROWS = 6, 8


def inputs():
    """Anchors, positives, hard negatives of the whole batch, float64."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(3, ROWS, WIDTH, dtype=torch.float64, generator=generator)


def network():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(WIDTH, 5), nn.Tanh(), nn.Linear(5, 4)).double()


def in_batch_loss(gather, anchor, positive, negative, first):
    """InfoNCE of local anchors against everybody's positives and hard negatives."""
    candidates = torch.cat([gather(positive), gather(negative)])
    labels = torch.arange(len(anchor)) + first
    return nn.functional.cross_entropy(anchor @ candidates.T, labels)


def steps(model, batch_loss, n=3):
    """SGD steps with clipping, which shows a scale that AdamW would hide."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(n):
        optimizer.zero_grad()
        batch_loss(model).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.7)
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


def on_a_rank_train(fault):
    world, rank = distributed.world_size(), distributed.rank()
    share = ROWS // world
    mine = inputs()[:, rank * share : (rank + 1) * share]
    gather = distributed.gather
    if fault == "detached":
        gather = distributed.gather_ragged
    elif fault == "own rows only":

        def gather(tensor):
            return tensor

    first = 0 if fault == "own rows only" else rank * share

    def loss(model):
        value = in_batch_loss(gather, *model(mine), first)
        return value * world if fault == "world-size factor" else value

    return steps(nn.parallel.DistributedDataParallel(network()), loss)


@pytest.fixture(scope="module")
def alone():
    batch = inputs()
    return steps(network(), lambda m: in_batch_loss(distributed.gather, *m(batch), 0))


def difference(one, other):
    return (torch.tensor(one) - torch.tensor(other)).abs().max().item()


FAULTS = ("detached", "world-size factor", "own rows only")


def on_a_rank_all():
    trained = {fault: on_a_rank_train(fault) for fault in (None, *FAULTS)}
    return trained, on_a_rank_collect()


@pytest.fixture(scope="module")
def two_ranks():
    return run_ranks(2, HERE, "on_a_rank_all")


def test_in_batch_steps_of_two_ranks_equal_one_process(two_ranks, alone):
    for trained, _ in two_ranks:
        assert difference(trained[None], alone) < 1e-9


@pytest.mark.slow
def test_in_batch_steps_of_four_ranks_equal_one_process(alone):
    for found in run_ranks(4, HERE, "on_a_rank_train", None):
        assert difference(found, alone) < 1e-9


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_seen(fault, two_ranks, alone):
    for trained, _ in two_ranks:
        assert difference(trained[fault], alone) > 1e-4


def on_a_rank_collect():
    rank = distributed.rank()
    ragged = torch.full((rank * 2, 3), float(rank), requires_grad=True)
    sent = torch.tensor([1.0, rank])
    results = {
        "rank": (rank, distributed.world_size()),
        "ragged": distributed.gather_ragged(ragged).tolist(),
        "ragged_gradient": distributed.gather_ragged(ragged).requires_grad,
        "whole": distributed.gather_ragged(torch.tensor([rank])).tolist(),
        "sum": distributed.sum_over_ranks(sent).tolist(),
        "mean": distributed.mean_over_ranks(sent).tolist(),
        "sent": sent.tolist(),
    }
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        found = distributed.gather(torch.full((2, 1), rank))
    results |= {"order": found.flatten().tolist(), "warned": [str(w.message) for w in warned]}
    try:
        distributed.gather(torch.zeros(2 + rank, 3))
    except ValueError as error:
        results["unequal"] = str(error)
    distributed.barrier()
    return results


def test_collectives_of_two_ranks(two_ranks):
    for number, (_, found) in enumerate(two_ranks):
        assert found["rank"] == (number, 2)
        assert found["ragged"] == [[1.0] * 3] * 2
        assert found["ragged_gradient"] is False
        assert found["whole"] == [0, 1]
        assert found["sum"] == [2.0, 1.0]
        assert found["mean"] == [1.0, 0.5]
        assert found["sent"] == [1.0, float(number)]
        assert found["order"] == [0, 0, 1, 1]
        assert found["warned"] == []
        assert "[[2, 3], [3, 3]]" in found["unequal"]


def test_one_process_needs_no_group():
    assert not dist.is_initialized()
    rows = torch.ones(2, 3, requires_grad=True)
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.gather(rows) is rows
    assert torch.equal(distributed.gather_ragged(rows), rows)
    assert not distributed.gather_ragged(rows).requires_grad
    assert torch.equal(distributed.mean_over_ranks(rows), rows)
    distributed.barrier()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 0),
        ({"RANK": "3", "LOCAL_RANK": "1"}, 3),
        ({"LOCAL_RANK": "1"}, 1),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, 2),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "LOCAL_RANK": "1"}, 1),
        # torchrun inside one srun task of each of two machines
        ({"RANK": "5", "LOCAL_RANK": "5", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, 5),
    ],
)
def test_the_launcher_names_the_rank(monkeypatch, variables, expected):
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert distributed.launch_rank() == expected


TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
SLURM = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_NNODES": "2"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WORLD_SIZE": "2", "LOCAL_RANK": "1", "NODE_RANK": "0"}, None),  # of Lightning's own
        (TORCHRUN, ("torchrun", 2, 2, 4)),
        ({"RANK": "0", "WORLD_SIZE": "2"}, ("the launcher", None, None, 2)),
        (SLURM, ("srun", 2, 2, 4)),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, ("srun", 2, 1, 2)),
        ({"SLURM_NTASKS": "2"}, None),  # in the job's script, outside of srun
        (SLURM | {"SLURM_JOB_NAME": "bash"}, None),
        (SLURM | TORCHRUN | {"WORLD_SIZE": "6"}, ("torchrun", 2, 3, 6)),
    ],
)
def test_a_launcher_says_how_many_processes_there_are(environment, expected):
    assert distributed.launch(environment) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (TORCHRUN | {"WORLD_SIZE": "3"}, "started 3 processes, which are not 2 equal parts"),
        (SLURM | {"SLURM_NNODES": "3"}, "started 4 processes, which are not 3 equal parts"),
        (TORCHRUN | {"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
    ],
)
def test_machines_with_different_numbers_of_processes_are_refused(environment, message):
    with pytest.raises(UserError, match=message):
        distributed.launch(environment)


ARRAY = {
    "SLURM_ARRAY_TASK_ID": "7",
    "SLURM_ARRAY_TASK_COUNT": "4",
    "SLURM_ARRAY_TASK_MIN": "1",
    "SLURM_ARRAY_TASK_MAX": "10",
    "SLURM_ARRAY_TASK_STEP": "3",
}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (TORCHRUN, (1, 4, "torchrun")),
        (SLURM, (3, 4, "srun")),
        (ARRAY, (2, 4, "a job array")),
        ({"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "2"}, (0, 2, "a job array")),
        (ARRAY | TORCHRUN, (9, 16, "torchrun in a job array")),
        # Submitted again: jobs 1 and 7 of four, and the fifth of an array that says too little.
        (ARRAY | {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MAX": "7"}, None),
        ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "2"}, None),
    ],
)
def test_a_launcher_or_a_job_array_gives_each_process_its_share(environment, expected):
    assert distributed.work_share(environment) == expected


def test_every_share_of_an_array_of_torchruns_is_another_one():
    shares = {
        distributed.work_share(
            ARRAY | TORCHRUN | {"SLURM_ARRAY_TASK_ID": str(job), "RANK": str(rank)}
        )
        for job in (1, 4, 7, 10)
        for rank in range(4)
    }
    assert sorted(share.number for share in shares) == list(range(16))


def test_the_number_on_a_machine_is_the_launchers():
    assert distributed.local_rank({}) is None
    assert distributed.local_rank({"LOCAL_RANK": "0", "SLURM_LOCALID": "3"}) == 0
    assert distributed.local_rank({"SLURM_LOCALID": "3"}) == 3
    with pytest.raises(UserError, match="LOCAL_RANK is '-1'; expected a number of 0 or more"):
        distributed.local_rank({"LOCAL_RANK": "-1"})
