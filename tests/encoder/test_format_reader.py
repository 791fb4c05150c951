"""Formats of texts, for an encoder that does not tell them apart."""

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from tests.helpers.adapter_models import (
    adapted_encoder,
    ragged,
)


def test_formats_are_refused_by_an_encoder_that_reads_every_text_alike(tiny_bert):
    encoder = Encoder(EncoderSettings(str(tiny_bert))).eval()
    assert not encoder.format_reader.reads_formats
    assert adapted_encoder(tiny_bert).format_reader.reads_formats
    with pytest.raises(ValueError, match="takes no formats"):
        encoder(ragged([5]), torch.tensor([3]))
