import pytest

from sciembed_train.optim_settings import OptimSettings, learning_rate


def rates(settings, total):
    return [learning_rate(settings, s, total) for s in range(total)]


def test_slanted_triangular_is_the_equation():
    # ULMFiT eq. 3: cut = floor(T * cut_frac), p is 1 at cut, lr = max * (1 + p (ratio-1)) / ratio
    settings = OptimSettings(lr=1.0, schedule="slanted_triangular", cut_frac=0.1, ratio=32)
    found = rates(settings, 200)
    for t in range(200):
        p = t / 20 if t < 20 else 1 - (t - 20) / (20 * (1 / 0.1 - 1))
        assert found[t] == pytest.approx((1 + p * 31) / 32, abs=1e-12)
    assert found[0] == pytest.approx(1 / 32)
    assert max(found) == found[20] == 1.0
    assert found[-1] > 1 / 32


def test_linear_warms_up_and_comes_down_without_a_step_of_zero():
    settings = OptimSettings(lr=2.0, schedule="linear", warmup_steps=4)
    assert rates(settings, 10) == pytest.approx(
        [0.5, 1.0, 1.5, 2.0, *(2.0 * (10 - s) / 6 for s in range(4, 10))]
    )
    by_share = OptimSettings(lr=2.0, schedule="linear", warmup_share=0.4)
    assert rates(by_share, 10) == rates(settings, 10)


def test_constant_stays():
    assert rates(OptimSettings(lr=3.0, schedule="constant"), 5) == [3.0] * 5


@pytest.mark.parametrize("schedule", ["linear", "slanted_triangular", "constant"])
@pytest.mark.parametrize("total", [1, 2, 9])
def test_short_runs_have_a_positive_rate_everywhere(schedule, total):
    settings = OptimSettings(schedule=schedule)
    assert all(0 < r <= settings.lr for r in rates(settings, total))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", 0.0),
        ("weight_decay", -0.1),
        ("betas", (0.9, 1.0)),
        ("eps", 0.0),
        ("clip_norm", 0.0),
        ("warmup_steps", -1),
        ("warmup_share", 1.0),
        ("cut_frac", 0.0),
        ("ratio", 0.5),
    ],
)
def test_a_value_out_of_range_is_named(key, value):
    with pytest.raises(ValueError, match=rf"optim\.{key} must be"):
        OptimSettings(**{key: value})


def test_two_warmups_are_refused():
    with pytest.raises(ValueError, match="give one of the two"):
        OptimSettings(warmup_steps=5, warmup_share=0.1)


@pytest.mark.parametrize("schedule", ["linear", "slanted_triangular", "constant"])
def test_a_schedule_may_be_shorter_than_the_run_which_goes_on_at_its_last_rate(schedule):
    own = OptimSettings(schedule=schedule, warmup_steps=0)
    kept = OptimSettings(schedule=schedule, warmup_steps=0, schedule_steps=10)
    rates = [learning_rate(kept, step, 15) for step in range(15)]
    assert rates[:10] == [learning_rate(own, step, 10) for step in range(10)]
    assert rates[10:] == [rates[9]] * 5
    with pytest.raises(ValueError, match="schedule_steps must be 1 or more"):
        OptimSettings(schedule_steps=0)
