import pytest

from sciembed_train.errors import UserError
from sciembed_train.methods.projection_settings import ProjectionSettings


def test_nothing_is_learned_unless_asked_for():
    assert ProjectionSettings().steps == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": -1}, {"batch_size": 1}, {"negatives": -1}, {"lr": 0.0}, {"temperature": 0.0},
        {"cocitations": 1.5}, {"share": 0.0}, {"share": 1.1}, {"most_papers": 1},
        {"fewest_pairs": 0}, {"lr": float("inf")}, {"alpha": 0.0}, {"alpha": 1.5},
    ],
)  # fmt: skip
def test_a_value_out_of_its_range_is_refused_by_name(settings):
    with pytest.raises(UserError, match=rf"projection\.{next(iter(settings))}"):
        ProjectionSettings(**settings)
