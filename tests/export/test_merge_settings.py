import subprocess
import sys

import pytest

from sciembed_train.errors import UserError
from sciembed_train.export.merge_settings import MergeSettings, check_weights


def test_models_weigh_equally_unless_weights_are_given():
    assert MergeSettings(["a", "b", "c", "d"], "to").shares == [0.25] * 4
    assert MergeSettings(["a", "b"], "to", [0.3, 0.7]).shares == [0.3, 0.7]
    check_weights([0.1, 0.2, 0.7], 3)  # their sum is not quite 1


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.333, 0.333, 0.333], "add up to 0.999, not to 1; give 0.3333333 0.3333333 0.3333333"),
        ([0.5, 0.5], "2 for 3 models; give one each"),
        ([1.5, -0.5, 0.0], "expected numbers from 0 to 1"),
    ],
)
def test_weights_that_are_no_shares_of_1_are_refused(weights, message):
    with pytest.raises(UserError, match=message):
        check_weights(weights, 3)


def test_one_model_is_nothing_to_merge():
    with pytest.raises(UserError, match="two models or more to merge; got 1"):
        MergeSettings(["a"], "to")


def test_settings_are_read_without_torch():
    code = "import sciembed_train.export.merge_settings, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
