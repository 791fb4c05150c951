import dataclasses

import pytest
import torch

from sciembed_train import distributed
from sciembed_train.batch import (
    PairBatch,
    TokenRows,
)
from sciembed_train.encoder.encoder import EncoderSettings
from sciembed_train.encoder.profiling.memory import Footprint
from sciembed_train.errors import UserError
from sciembed_train.methods.aspire import Cocite
from sciembed_train.methods.engine import micro_batch_size
from tests.helpers import training
from tests.helpers.cocitation_corpus import write_cocitation_corpus
from tests.helpers.micro_batch_size_training import ROOM, CrowdedDevice, on_a_rank, train
from tests.helpers.processes import run_ranks
from tests.helpers.training import difference

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*"
)
LENGTH = 64


@pytest.fixture(scope="module")
def place(tiny_bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitting") / "corpus"
    write_cocitation_corpus(folder, tiny_bert)
    return str(folder), str(tiny_bert)


@pytest.fixture(scope="module")
def two(place):
    return run_ranks(2, "tests.helpers.micro_batch_size_training", "on_a_rank", *place)


@pytest.mark.slow
def test_all_ranks_agree_on_what_fits_on_the_fullest(two):
    tokens = {found["crowded"]["chosen"].tokens for found in two}
    # Four pairs a rank: 512 tokens, then 256.
    assert tokens == {256}
    for found, room in zip(two, ROOM, strict=True):
        assert max(found["crowded"]["tried"]) == 512
        assert max(found["crowded"]["largest"]) <= 256 <= room


@pytest.mark.slow
def test_gradients_are_exchanged_once_a_step_however_it_is_cut(two):
    for found in two:
        assert found["cut"]["exchanges"] == found["whole"]["exchanges"] == 3
        assert difference(found["cut"], found["whole"], "gradients") < 1e-12


@pytest.fixture(scope="module")
def one(place):
    return training.alone(on_a_rank, *place)


@pytest.mark.slow
def test_a_step_that_was_tried_changes_no_number(place, one, two, monkeypatch):
    monkeypatch.setattr(CrowdedDevice, "room", 10**6)
    runs = [
        train(*place, crowded, dropout=0.2, negatives="all", max_tokens_per_backward=tokens)
        for crowded, tokens in ((False, None), (True, "auto"), (True, 10**6))
    ]
    for run in runs[1:]:
        assert run["left"] == (False, [])
        assert run["tried"].count(8 * 2 * LENGTH) == 1
        assert run["gradients"] == runs[0]["gradients"]
        assert run["weights"] == runs[0]["weights"]
    for found in two:  # nor do the halved micro-batches
        assert difference(found["crowded"], one["whole"], "gradients") < 1e-9


def test_a_device_too_small_for_one_example_is_told(place, monkeypatch):
    monkeypatch.setattr(CrowdedDevice, "room", 100)
    with pytest.raises(UserError, match=r"Not even one example.*128 tokens.*up to 64.*max_length"):
        train(*place, crowded=True)


def test_only_running_out_of_memory_is_forgiven(place, monkeypatch):
    def broken(self, rows):
        raise RuntimeError("something else")

    monkeypatch.setattr(CrowdedDevice, "check_room", broken)
    with pytest.raises(RuntimeError, match="something else"):
        train(*place, crowded=True)


def test_on_a_cpu_the_estimate_decides_and_nothing_is_tried(tiny_bert, monkeypatch):
    monkeypatch.setattr(
        micro_batch_size, "footprint", lambda encoder, length: Footprint(1000, 50.0)
    )
    monkeypatch.setattr(Cocite, "optimizer_ready", False)
    monkeypatch.setattr(Cocite, "gradients", None)
    encoder = EncoderSettings(str(tiny_bert), max_length=LENGTH)

    def run(tokens, wanted="auto", previous=None, forward="auto"):
        """What is said where so many tokens fit; weights have gradients and two moments."""
        method = Cocite(
            dataclasses.replace(encoder, forward=forward), max_tokens_per_backward=wanted
        )
        trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
        kept = 3 * 4 * trained + 8 * 2 * 32 * 4 * 6  # 16 vectors, their gradients, those of all
        room = None if tokens is None else int((kept + 1000 + 50 * tokens + 25) / 0.75)
        monkeypatch.setattr(
            micro_batch_size, "free_memory", lambda device, processes_on_machine: room
        )
        return micro_batch_size.choose_micro_batch_size(method, PAIRS, LENGTH, 1, True, previous)

    whole = 8 * 2 * LENGTH
    assert run(5000) == micro_batch_size.MicroBatchSize(5000)
    assert run(whole) == micro_batch_size.MicroBatchSize(whole)
    found = run(500)
    assert (found.tokens, found.splits) == (500, True)
    assert "may have 1,024 tokens" in found.message
    assert "more than 500 is split" in found.message
    assert run(500, wanted=150) == micro_batch_size.MicroBatchSize(
        150, splits=True
    )  # fits: as it was given
    assert run(500, wanted=10) == micro_batch_size.MicroBatchSize(10, splits=True)
    assert run(500, wanted=10**6).tokens == 500
    assert run(5000, wanted=10**6) == micro_batch_size.MicroBatchSize(10**6)
    assert run(100, wanted=None) == micro_batch_size.MicroBatchSize(None)
    assert run(None) == micro_batch_size.MicroBatchSize(None)
    assert run(2 * LENGTH).tokens == 2 * LENGTH
    # A run that is continued is cut as it was, if that fits; dropout is drawn micro-batch by
    # micro-batch.
    assert run(5000, previous=300).tokens == 300
    assert "as in the run that is continued" in run(5000, previous=300).message
    assert run(500, previous=900).tokens == 500
    assert run(None, previous=300) == micro_batch_size.MicroBatchSize(300, splits=True)
    assert run(500, wanted=150, previous=300).tokens == 150
    # The micro-batches of a padded backbone have slots without a token.
    assert run(500, forward="padded").tokens == 375
    assert run(whole, forward="padded") == micro_batch_size.MicroBatchSize(whole)
    for wanted in ("auto", 5):
        with pytest.raises(UserError, match=r"Not even one.*128 tokens.*gradient_checkpointing"):
            run(2 * LENGTH - 1, wanted)
    # Another rank knows nothing: no rank may wait for what it will not say.
    monkeypatch.setattr(micro_batch_size, "_least_of_ranks", lambda number: 0)
    assert run(500) == micro_batch_size.MicroBatchSize(None)


def rows(*lengths):
    return TokenRows(torch.arange(5, 5 + sum(lengths)), torch.tensor(lengths))


def column(*values):
    return torch.tensor(values)


PAIRS = PairBatch(
    rows(3, 2, 4), *(column(*[v] * 8) for v in (0, 1, -1)), torch.zeros(0, 2, dtype=torch.int64), 0
)


@pytest.mark.parametrize(
    ("negatives", "ranks", "count"),
    [("one", 2, 0.75), ("all", 2, 8 - 7 / 4), ("local", 2, 4 - 5 / 4)],
)
def test_a_run_says_how_many_negatives_a_pair_meets(
    tiny_bert, monkeypatch, negatives, ranks, count
):
    method = Cocite(EncoderSettings(str(tiny_bert), max_length=LENGTH), negatives=negatives)
    monkeypatch.setattr(distributed, "world_size", lambda: ranks)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    excluded = column([0, 4], [1, 5], [2, 6], [3, 7], [0, 1], [2, 3], [3, 5])
    batch = PairBatch(
        rows(3, 2), *(column(*[v] * 4) for v in (0, 1)), column(1, 3, -1, 0), excluded, 0
    )
    assert method.negatives_per_anchor(batch) == count
