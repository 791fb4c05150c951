import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.training.interpolation import interpolated, no_interpolation


@pytest.fixture
def pair(tiny_bert):
    """A start, and the same with other weights."""
    start, trained = (Encoder(EncoderSettings(str(tiny_bert), pooling="mean")) for _ in range(2))
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return start, trained


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_each_weight_is_the_share_of_both(pair, alpha):
    start, trained = (encoder.state_dict() for encoder in pair)
    mixed = interpolated(start, trained, alpha)
    assert mixed.keys() == trained.keys()
    for key, value in mixed.items():
        expected = (1 - alpha) * start[key].double() + alpha * trained[key].double()
        assert torch.allclose(value.double(), expected, atol=1e-7)
        if alpha in (0.0, 1.0):
            assert torch.equal(value, (start, trained)[int(alpha)][key])


def test_what_only_the_trained_encoder_has_stays_as_it_was_trained(tiny_bert, pair):
    mixing = Encoder(EncoderSettings(str(tiny_bert), pooling="mix"))
    with torch.no_grad():
        mixing.pooling.mix.copy_(torch.tensor([[1.0, -1.0, 0.5]]))
    start, _ = pair
    assert no_interpolation(start, mixing) is None
    mixed = interpolated(start.state_dict(), mixing.state_dict(), 0.5)
    assert mixed.keys() == mixing.state_dict().keys()
    key = next(key for key in mixed if key.endswith("mix"))
    assert torch.equal(mixed[key], mixing.state_dict()[key])


def test_other_architectures_codes_and_vocabularies_are_not_mixed(tiny_bert, tmp_path, pair):
    start, _ = pair
    codes = Encoder(EncoderSettings(str(tiny_bert), control_codes=True))
    assert "control codes were added" in (no_interpolation(start, codes) or "")
    shallow = Encoder(EncoderSettings(str(tiny_bert)))
    del shallow.backbone.encoder.layer[1]
    assert "different weights, such as backbone.encoder.layer.1" in (
        no_interpolation(start, shallow) or ""
    )


def test_a_pooler_that_training_left_out_is_no_difference(pair):
    start, trained = pair
    trained.backbone.pooler = None
    assert no_interpolation(start, trained) is None
    assert interpolated(start.state_dict(), trained.state_dict(), 0.5).keys() == (
        trained.state_dict().keys()
    )
