import io
import shutil

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import describe, encoder_from_checkpoint
from sciembed_train.errors import UserError
from tests.helpers.adapter_models import (
    adapted_encoder,
    ragged,
)

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
        (lambda c: c["sciembed"]["backbone_config"].update(model_type="detr"), "are of the types"),
        (lambda c: c["sciembed"]["backbone_config"].update(vocab_size=4_000_000), "parameters"),
        (lambda c: c["sciembed"]["backbone_config"].update(hidden_act="x"), "expected one of gelu"),
        (lambda c: c["sciembed"]["tokenizer_files"].update({"../x": ""}), "no plain name"),
        (
            lambda c: c["sciembed"]["tokenizer_files"].update({"config.json": '{"auto_map": {}}'}),
            "auto_map",
        ),
        (lambda c: c["state_dict"].popitem(), "do not fit"),
        (lambda c: c["sciembed"]["backbone_config"].update(intermediate_size=8), "do not fit"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(tiny_bert, spoil, message):
    ckpt = checkpoint(Encoder(EncoderSettings(str(tiny_bert))))
    spoil(ckpt)
    with pytest.raises(UserError, match=f"last.ckpt.*{message}"):
        encoder_from_checkpoint(ckpt, "last.ckpt")


# Out of order in length and in format; several micro-batches at 60 tokens a micro-batch; a
# micro-batch without a format, and texts of equal length.
LENGTHS = [7, 30, 12, 3, 41, 12, 5, 30, 9, 22, 2, 17]


FORMATS = torch.tensor([3, 0, 2, 2, 1, 0, 2, 3, 0, 2, 1, 2])


def checkpoint_of(encoder, file):
    """What `train fit` keeps of an encoder, as it is read back."""
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    torch.save({"sciembed": {"version": 1, **describe(encoder)}, "state_dict": state}, file)
    return torch.load(file, weights_only=True)


def test_a_checkpoint_holds_the_adapters_and_names_their_base(tiny_bert, tmp_path):
    encoder = adapted_encoder(tiny_bert, "float32").eval()
    content = checkpoint_of(encoder, tmp_path / "a.ckpt")
    assert content["sciembed"]["base"] == str(tiny_bert)
    assert len(content["sciembed"]["base_fingerprint"]) == 64
    adapters = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    assert sum(v.numel() for v in content["state_dict"].values()) == adapters + 32
    again = encoder_from_checkpoint(content)
    rows = ragged(LENGTHS)
    assert torch.equal(again(rows, FORMATS), encoder(rows, FORMATS))


def test_a_checkpoint_without_its_base_is_refused(tiny_bert, tmp_path):
    from tests.helpers.tiny_models import write_tiny_bert

    base = shutil.copytree(tiny_bert, tmp_path / "base")
    encoder = adapted_encoder(base, "float32").eval()
    content = checkpoint_of(encoder, tmp_path / "a.ckpt")
    base.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"it\.ckpt: holds adapters to the backbone .*base, which"):
        encoder_from_checkpoint(content, "it.ckpt")
    rows = ragged(LENGTHS)
    again = encoder_from_checkpoint(content, "it.ckpt", str(tmp_path / "moved"))
    assert torch.equal(again(rows, FORMATS), encoder(rows, FORMATS))
    other = write_tiny_bert(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match=r"it\.ckpt.*weights are other ones"):
        encoder_from_checkpoint(content, "it.ckpt", str(other))
    whole = checkpoint_of(Encoder(EncoderSettings(str(other))), tmp_path / "b.ckpt")
    with pytest.raises(UserError, match="no base goes with it"):
        encoder_from_checkpoint(whole, "it.ckpt", str(other))
