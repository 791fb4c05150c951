import pytest

from sciembed_train.encoder.heads.projection_files import IDENTITY, projected_width
from sciembed_train.errors import UserError

LINEAR = {"in_features": 4, "out_features": 3, "bias": False, "activation_function": IDENTITY}


def test_the_width_of_a_linear_layer_is_read(tmp_path):
    assert projected_width(tmp_path, LINEAR) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": True}, "bias or activation"),
        ({"activation_function": "torch.nn.modules.activation.Tanh"}, "activation.Tanh"),
        ({"out_features": "3"}, "names no out_features"),
        ({"out_features": 0}, "names no out_features"),
    ],
)
def test_what_is_no_plain_linear_layer_is_refused(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        projected_width(tmp_path, {**LINEAR, **change})


def test_a_layer_that_says_nothing_has_a_bias_and_an_activation_as_the_library_has_it(tmp_path):
    with pytest.raises(UserError, match=r"bias or activation \(tanh\)"):
        projected_width(tmp_path, {"out_features": 3})
