import pytest
import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.settings import EncoderSettings
from tests.helpers.masked_models import write_masked_lm


@pytest.fixture(params=["tiny_bert", "tiny_roberta"])
def backbone(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session", params=["bert", "roberta", "electra", "distilbert", "mpnet"])
def with_head(request, tmp_path_factory):
    """An encoder with a head, trained a little, so that its folder must hold new weights."""
    folder = write_masked_lm(tmp_path_factory.mktemp(request.param), request.param)
    settings = EncoderSettings(str(folder), "mean", 512, dropout=0.1)
    encoder = Encoder(settings, masked_lm=True)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    return encoder
