"""An encoder's state: the names of its parts, and what of a frozen backbone is left out."""

import copy

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder
from tests.helpers.adapter_models import (
    adapted_encoder,
    ragged,
    stir,
)

# Out of order in length and in format; several micro-batches at 60 tokens a micro-batch; a
# micro-batch without a format, and texts of equal length.
LENGTHS = [7, 30, 12, 3, 41, 12, 5, 30, 9, 22, 2, 17]


FORMATS = torch.tensor([3, 0, 2, 2, 1, 0, 2, 3, 0, 2, 1, 2])


def test_the_state_holds_the_adapters_alone_and_goes_into_the_same_base(tiny_bert):
    encoder = adapted_encoder(tiny_bert, "float32")
    state = encoder.state_dict()
    assert len(state) == 4 * 2 * 4 + 1
    assert all(".adapters.[" in k or k == "adapters._extra_state" for k in state)
    other = Encoder(encoder.settings).eval()
    rows = ragged(LENGTHS)
    assert not torch.equal(other(rows, FORMATS), encoder.eval()(rows, FORMATS))
    other.load_state_dict(state, strict=True)
    assert torch.equal(other(rows, FORMATS), encoder(rows, FORMATS))
    del state[next(k for k in state if "[QRY]" in k)]
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(state, strict=True)


def test_a_copy_of_an_encoder_has_a_state_of_its_own(tiny_bert):
    encoder = adapted_encoder(tiny_bert, "float32")
    twin = copy.deepcopy(encoder)
    assert twin.state_dict().keys() == encoder.state_dict().keys()
    stir(twin.backbone, twin.format_reader, seed=8)
    key = "backbone.encoder.layer.0.output.adapters.[PRX].adapter_up.weight"
    assert not torch.equal(twin.state_dict()[key], encoder.state_dict()[key])
    rows = ragged(LENGTHS)
    assert not torch.equal(twin.eval()(rows, FORMATS), encoder.eval()(rows, FORMATS))
    twin.load_state_dict(encoder.state_dict())
    assert torch.equal(twin(rows, FORMATS), encoder(rows, FORMATS))
