from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from sciembed_train.methods.base import StepResult
from sciembed_train.training.callbacks.signals import Signals
from sciembed_train.training.callbacks.step_metrics import StepMetrics
from sciembed_train.training.callbacks.throughput import Interval
from sciembed_train.training.run_folder import MetricsCsv


class Logged:
    def __init__(self):
        self.rows = {}

    def log_metrics(self, metrics, step):
        self.rows[step] = metrics


class Batch:
    rows = SimpleNamespace(tokens=30)

    def __len__(self):
        return 4


METHOD = SimpleNamespace(
    device=torch.device("cpu"),
    encoder=SimpleNamespace(unpadded=True, device=torch.device("cpu")),
    negatives_per_anchor=lambda batch: 3.0,
)
RESULT = StepResult(
    {"loss": torch.tensor(8.0), "mlm_loss": torch.tensor(2.0)}, 0.01, torch.tensor(1.5), ()
)


@pytest.fixture
def metrics():
    throughput = SimpleNamespace(tokens=60, restart=lambda: Interval(2.0, 0.25))
    return StepMetrics(every=5, throughput=throughput, signals=Signals())


def step(metrics, number, logger, last=100):
    trainer = SimpleNamespace(global_step=number, max_steps=last, loggers=[logger])
    metrics.on_train_batch_end(trainer, METHOD, {"result": RESULT}, Batch(), 0)


def test_means_over_the_examples_and_speed_are_logged_at_the_interval(metrics):
    logger = Logged()
    for number in range(1, 13):
        step(metrics, number, logger, last=12)
    assert sorted(logger.rows) == [1, 5, 10, 12]  # the first and the last too
    row = logger.rows[5]
    assert (row["train/loss"], row["train/mlm_loss"]) == (2.0, 0.5)
    assert row["train/tokens_per_second"] == 30.0
    assert (row["train/data_time_share"], row["train/negatives"]) == (0.25, 3.0)
    assert (row["train/lr"], row["train/grad_norm"]) == (0.01, 1.5)
    assert "train/bf16_peak_share" not in row
    assert metrics.progress["loss"] == 2.0


def test_the_loss_of_each_step_is_known_whether_it_is_logged_or_not(metrics):
    assert metrics.loss is None
    for number, total in ((1, 8.0), (2, 4.0), (3, 2.0)):
        result = replace(RESULT, sums={"mlm_loss": torch.tensor(9.0), "loss": torch.tensor(total)})
        trainer = SimpleNamespace(global_step=number, max_steps=100, loggers=[Logged()])
        metrics.on_train_batch_end(trainer, METHOD, {"result": result}, Batch(), 0)
        assert metrics.loss == total / 4
    assert metrics.progress["loss"] == 2.0


@pytest.mark.parametrize("number", [5, 6])
def test_a_signal_is_agreed_on_at_every_step(metrics, number):
    metrics.signals.received = 15
    step(metrics, number, Logged())
    assert metrics.signals.agreed == 15


def test_a_continued_run_drops_what_was_logged_after_its_checkpoint(metrics, tmp_path):
    table = MetricsCsv(tmp_path / "metrics.csv")
    for number in (1, 2, 3):
        table.log_metrics({"train/loss": number}, step=number)
    trainer = SimpleNamespace(loggers=[table], global_step=2)
    metrics.on_train_start(trainer, METHOD)
    assert [row["step"] for row in table.rows()] == ["1", "2"]
