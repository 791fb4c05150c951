import time
from datetime import timedelta

import pytest
import torch.distributed as dist

from sciembed_train.training.callbacks.start_scoring import StartScoring
from tests.helpers.processes import run_ranks

HERE = "tests.training.callbacks.test_start_scoring"


class Scored:
    """A comparison that takes a while."""

    def __init__(self, seconds=0.0):
        self.seconds, self.calls = seconds, 0

    def before(self):
        time.sleep(self.seconds)
        self.calls += 1


def test_a_single_process_scores_the_start_once():
    comparison = Scored()
    StartScoring(comparison).on_fit_start(None, None)
    assert comparison.calls == 1


def on_a_rank():
    """Other exchanges end after a second; the wait for the first rank does not."""
    group = dist.distributed_c10d._get_default_group()
    dist.distributed_c10d._set_pg_timeout(timedelta(seconds=1), group)
    comparison = Scored(3.0)
    begun = time.monotonic()
    StartScoring(comparison).on_fit_start(None, None)
    return comparison.calls, time.monotonic() - begun


@pytest.mark.slow
def test_the_first_rank_scores_and_the_others_wait_however_long_it_takes():
    ranks = run_ranks(2, HERE, "on_a_rank")
    assert [calls for calls, _ in ranks] == [1, 0]
    assert min(seconds for _, seconds in ranks) > 2.5
