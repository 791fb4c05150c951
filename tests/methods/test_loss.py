import pytest
import torch

from sciembed_train.errors import UserError
from sciembed_train.methods.loss import (
    check_margin,
    check_temperature,
    full_precision,
    widest_float,
)


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        ("float16", "float32"),
        ("bfloat16", "float32"),
        ("float32", "float32"),
        ("float64", "float64"),
    ],
)
def test_losses_are_computed_in_fp32_at_least(given, computed):
    vectors = torch.ones(2, 3, dtype=getattr(torch, given))
    assert full_precision(vectors).dtype == getattr(torch, computed)


def test_sums_are_made_in_float64_where_the_device_has_it():
    assert widest_float(torch.ones(1)) == torch.float64
    assert widest_float(torch.ones(1, device="meta")) == torch.float64


@pytest.mark.parametrize("margin", [-0.1, float("nan")])
def test_a_margin_below_0_is_refused(margin):
    with pytest.raises(UserError, match="margin is in the unit of the distance"):
        check_margin(margin)
    check_margin(0.0)


def test_a_temperature_belongs_to_many_negatives_and_is_above_0():
    check_temperature(None, "one", compared="all")
    check_temperature(0.1, "all", compared="all")
    with pytest.raises(UserError, match="belongs to negatives: all or local"):
        check_temperature(0.1, "one", compared="all or local")
    with pytest.raises(UserError, match="must be above 0, or null; got 0"):
        check_temperature(0.0, "all", compared="all")
