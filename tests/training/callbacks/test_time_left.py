from types import SimpleNamespace

import pytest

from sciembed_train.training.callbacks.time_left import TimeLeft, validations_left


def trainer(step, steps=10, interval=4, enable_validation=True):
    return SimpleNamespace(
        global_step=step,
        max_steps=steps,
        val_check_batch=interval,
        enable_validation=enable_validation,
    )


@pytest.mark.parametrize(
    ("step", "steps", "interval", "left"),
    [(0, 10, 4, 3), (3, 10, 4, 3), (4, 10, 4, 2), (9, 10, 4, 1), (10, 10, 4, 0), (0, 8, 4, 2)],
)
def test_validations_come_at_each_interval_and_at_the_end(step, steps, interval, left):
    assert validations_left(trainer(step, steps, interval)) == left
    made = {at for at in range(step + 1, steps + 1) if at % interval == 0 or at == steps}
    assert left == len(made)
    assert validations_left(trainer(step, steps, interval, enable_validation=False)) == 0


def test_the_rest_takes_as_long_as_steps_and_validations_did(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    measured = TimeLeft()

    def validate(seconds):
        measured.on_validation_start(None, None)
        now[0] += seconds
        measured.on_validation_end(None, None)

    def step(seconds):
        measured.on_train_batch_start(None, None, None, 0)
        now[0] += seconds
        measured.on_train_batch_end(None, None, None, None, 0)

    assert measured.seconds(trainer(0)) is None
    validate(8.0)  # before the first step
    now[0] += 100.0
    step(5.0)
    assert measured.seconds(trainer(1)) == 9 * 5.0 + 3 * 8.0
    step(2.0)  # the first is left out where there are others
    now[0] += 1.0  # waiting for data
    step(2.0)
    validate(4.0)
    step(2.0)
    assert measured.step_seconds == (2.0 + 3.0 + 2.0) / 3
    assert measured.validation_seconds == 6.0
    assert measured.seconds(trainer(4)) == pytest.approx(6 * 7 / 3 + 2 * 6.0)
