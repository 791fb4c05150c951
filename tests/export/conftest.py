import pytest
import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.export.export_folder import export_encoder
from tests.helpers.exports import CARD, encoder_of
from tests.helpers.masked_models import write_masked_lm
from tests.helpers.tiny_models import write_tiny_bert


@pytest.fixture(params=["tiny_bert", "tiny_roberta", "tiny_modernbert"])
def backbone(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(
    scope="session", params=["bert", "roberta", "electra", "distilbert", "modernbert", "mpnet"]
)
def with_head(request, tmp_path_factory):
    """An encoder with a head, trained a little, so that its folder must hold new weights."""
    folder = write_masked_lm(tmp_path_factory.mktemp(request.param), request.param)
    settings = EncoderSettings(str(folder), "mean", 512, dropout=0.1)
    encoder = Encoder(settings, masked_lm=True)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    return encoder


@pytest.fixture(scope="package")
def trained(tiny_bert):
    """An encoder whose weights are not those of its backbone's folder."""
    encoder = Encoder(EncoderSettings(str(tiny_bert), pooling="mean", dropout=0.0)).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    return encoder


@pytest.fixture(scope="package")
def two(tmp_path_factory):
    """A start with mean pooling and cosine, and what fine-tuning made of it."""
    above = tmp_path_factory.mktemp("two")
    folders = above / "start", above / "tuned"
    for seed, folder in enumerate(folders):
        backbone = write_tiny_bert(above / f"bert{seed}", seed)
        encoder = encoder_of(backbone, pooling="mean", max_length=256)
        export_encoder(encoder, folder, {**CARD, "similarity": "cosine", "seed": seed})
    return folders
