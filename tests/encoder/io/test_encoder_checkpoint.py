import io

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import describe, encoder_from_checkpoint
from sciembed_train.errors import UserError

TEXTS = ["word1 word2 word3", "word4 word5"]


def checkpoint(encoder):
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    ckpt = {"sciembed": {"version": 1, **describe(encoder)}, "state_dict": state}
    stored = io.BytesIO()
    torch.save(ckpt, stored)
    stored.seek(0)
    return torch.load(stored, weights_only=True)


@pytest.mark.parametrize("name", ["tiny_bert", "tiny_roberta"])
def test_an_encoder_comes_back_from_its_checkpoint_alone(name, request):
    settings = EncoderSettings(str(request.getfixturevalue(name)), "mean", 40, dropout=0.3)
    encoder = Encoder(settings)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.01)
    ckpt = checkpoint(encoder)
    ckpt["sciembed"]["encoder"]["backbone"] = "a folder that is gone"
    before = torch.random.get_rng_state()
    again = encoder_from_checkpoint(ckpt)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not again.training
    assert again.settings.max_length == 40
    assert again.tokenizer.fingerprint == encoder.tokenizer.fingerprint
    assert again.backbone_config() == encoder.backbone_config()
    assert again.backbone_config()["hidden_dropout_prob"] == 0.1
    torch.testing.assert_close(
        again.encode_texts(TEXTS), encoder.encode_texts(TEXTS), rtol=0, atol=0
    )


def test_what_is_kept_names_no_path(tiny_bert):
    kept = describe(Encoder(EncoderSettings(str(tiny_bert))))
    kept["encoder"].pop("backbone")
    assert str(tiny_bert) not in repr(kept)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c.pop("sciembed"), "not made by"),
        (lambda c: c["sciembed"].update(version=99), "version 99"),
        (lambda c: c["sciembed"].pop("tokenizer_files"), "tokenizer_files"),
        (lambda c: c["sciembed"]["encoder"].update(surprise=1), "surprise"),
        (lambda c: c["sciembed"]["backbone_config"].update(auto_map={"a": "b"}), "auto_map"),
        (lambda c: c["sciembed"]["tokenizer_files"].update({"../x": ""}), "no plain name"),
        (lambda c: c["state_dict"].popitem(), "do not fit"),
        (lambda c: c["sciembed"]["backbone_config"].update(intermediate_size=8), "do not fit"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(tiny_bert, spoil, message):
    ckpt = checkpoint(Encoder(EncoderSettings(str(tiny_bert))))
    spoil(ckpt)
    with pytest.raises(UserError, match=f"last.ckpt.*{message}"):
        encoder_from_checkpoint(ckpt, "last.ckpt")
