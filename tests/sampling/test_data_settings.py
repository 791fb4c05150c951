import pytest

from sciembed_train.errors import UserError
from sciembed_train.sampling.data_settings import DataSettings


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [("batch_size", 0, 1), ("num_workers", -1, 0), ("dev_examples", 0, 1)],
)
def test_a_number_out_of_range_is_named(name, value, least):
    with pytest.raises(UserError, match=rf"data\.{name} must be {least} or more; got {value}"):
        DataSettings(**{name: value})


def test_held_out_examples_are_the_samplings_own_number_by_default():
    assert DataSettings().dev_examples is None
    assert DataSettings().sampling is None
