import pytest
import torch

from sciembed_train.errors import UserError
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.export.verification import ExportError, compare, probe_texts
from tests.helpers.exports import CARD, encoder_of


def test_probe_texts_cross_the_lengths_where_tokenizers_cut(tiny_bert):
    encoder = encoder_of(tiny_bert)
    lengths = [len(ids) for ids in encoder.tokenizer.encode(probe_texts(encoder))]
    assert min(lengths) <= 2
    assert any(128 < n <= 512 for n in lengths)
    assert any(n > 512 for n in lengths)


def test_a_difference_is_measured_and_refused_above_the_tolerance():
    expected = torch.tensor([[1.0, -20.0]])
    assert compare("it", "embeddings", expected + 1e-4, expected) == pytest.approx(1e-4, rel=0.1)
    with pytest.raises(ExportError, match="it computes other embeddings"):
        compare("it", "embeddings", expected + 1e-3, expected)
    with pytest.raises(ExportError, match="it computes other embeddings"):
        compare("it", "embeddings", expected * torch.nan, expected)
    with pytest.raises(ExportError, match=r"of \(1, 1\); expected \(1, 2\)"):
        compare("it", "embeddings", expected[:, :1], expected)


def test_weights_and_vectors_that_are_not_finite_are_refused(tiny_bert, tmp_path):
    encoder = encoder_of(tiny_bert)
    with torch.no_grad():
        encoder.backbone.encoder.layer[0].output.dense.bias[0] = float("nan")
    with pytest.raises(UserError, match=r"weight backbone\.encoder\.layer\.0\.output\.dense\.bias"):
        export_encoder(encoder, tmp_path / "m", CARD)
    encoder = encoder_of(tiny_bert)
    with torch.no_grad():  # finite, and too large for their products
        encoder.backbone.encoder.layer[1].output.LayerNorm.weight.fill_(3e38)
    with pytest.raises(UserError, match="the test paper 'Naïve baselines"):
        export_encoder(encoder, tmp_path / "m", CARD)
    assert not list(tmp_path.iterdir())
