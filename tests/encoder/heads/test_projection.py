import json

import pytest
import torch
from torch.nn.functional import normalize

from sciembed_train import cli
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.heads.projection import (
    load_projection,
    new_projection,
    save_projection,
)
from sciembed_train.encoder.heads.projection_files import FOLDER
from sciembed_train.encoder.io.encoder_checkpoint import describe, encoder_from_checkpoint
from sciembed_train.encoder.io.start_model import read_start, resolve
from sciembed_train.errors import UserError
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.export.onnx_graph import WholeEncoder
from tests.helpers.exports import CARD, encoder_of

TEXTS = ["word1 word2 word3", "word4", "word5 word6 word7 word8 word9"]


def projected(tiny_bert, dim=8, **settings):
    """An encoder with a random projection."""
    encoder = encoder_of(tiny_bert, pooling="mean", projection=dim, **settings)
    torch.manual_seed(3)
    with torch.no_grad():
        encoder.projection.weight.copy_(torch.randn(dim, 32))
    return encoder


def test_a_new_projection_changes_no_number(tiny_bert):
    plain = encoder_of(tiny_bert, pooling="mean").encode_texts(TEXTS)
    for dim in (32, 8):
        encoder = encoder_of(tiny_bert, pooling="mean", projection=dim)
        assert encoder.dim == dim
        torch.testing.assert_close(encoder.encode_texts(TEXTS), plain[:, :dim])
    wide = new_projection(2, 3).weight
    assert torch.equal(wide, torch.tensor([[1.0, 0], [0, 1], [0, 0]]))


@pytest.mark.parametrize("forward", ["unpadded", "padded"])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_pooled_vector_is_multiplied_then_scaled(tiny_bert, forward, scaled):
    encoder = projected(tiny_bert, forward=forward, normalize=scaled)
    pooled = encoder_of(tiny_bert, pooling="mean").encode_texts(TEXTS)
    expected = pooled @ encoder.projection.weight.detach().T
    expected = normalize(expected) if scaled else expected
    torch.testing.assert_close(encoder.encode_texts(TEXTS), expected, rtol=1e-5, atol=1e-5)


def test_the_projection_gets_its_gradient(tiny_bert):
    encoder = projected(tiny_bert)
    encoder(encoder.rows(TEXTS)).sum().backward()
    pooled = encoder_of(tiny_bert, pooling="mean").encode_texts(TEXTS)
    torch.testing.assert_close(encoder.projection.weight.grad, pooled.sum(0).expand(8, 32))


@pytest.mark.parametrize("scaled", [False, True])
def test_an_export_has_it_for_every_library_and_reads_it_again(tiny_bert, tmp_path, scaled):
    encoder = projected(tiny_bert, normalize=scaled)
    differences = export_encoder(encoder, tmp_path / "m", {**CARD, "similarity": "cosine"})
    assert all(value is None or value < 1e-5 for value in differences.values())
    again = Encoder.load(tmp_path / "m")
    assert again.settings.projection == 8
    assert torch.equal(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
    # As a folder of sentence-transformers that records nothing of this project.
    (tmp_path / "m" / "sciembed.json").unlink()
    kinds = [
        m["type"].rsplit(".")[-1] for m in json.loads((tmp_path / "m/modules.json").read_text())
    ]
    assert kinds == ["Transformer", "Pooling", "Dense", *(["Normalize"] if scaled else [])]
    theirs = Encoder.load(tmp_path / "m")
    torch.testing.assert_close(theirs.encode_texts(TEXTS), encoder.encode_texts(TEXTS))


def test_the_code_of_the_card_gives_its_vectors(tiny_bert, tmp_path):
    encoder = projected(tiny_bert, normalize=True)
    export_encoder(encoder, tmp_path / "m", {**CARD, "similarity": "cosine"})
    card = (tmp_path / "m" / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    found = {}
    exec(code.replace("PATH_OR_NAME_OF_THIS_MODEL", str(tmp_path / "m")), found)
    expected = encoder.encode_texts(found["texts"])
    torch.testing.assert_close(found["embeddings"], expected, rtol=1e-5, atol=1e-5)
    assert found["embeddings"].shape[1] == 8


def test_a_checkpoint_holds_it(tiny_bert):
    encoder = projected(tiny_bert)
    state = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    assert state["encoder.projection.weight"].shape == (8, 32)
    record = {"version": 1, **describe(encoder)}
    again = encoder_from_checkpoint({"sciembed": record, "state_dict": state})
    assert torch.equal(again.encode_texts(TEXTS), encoder.encode_texts(TEXTS))


def test_a_graph_has_it_inside(tiny_bert):
    encoder = projected(tiny_bert, normalize=True)
    rows = encoder.rows(TEXTS[:1])
    ids = rows.ids[None]
    with torch.no_grad():
        _, vectors = WholeEncoder(encoder)(ids, torch.ones_like(ids))
    torch.testing.assert_close(vectors, encoder.encode_texts(TEXTS[:1]), rtol=1e-5, atol=1e-5)


def test_a_start_with_one_keeps_it_and_the_user_may_leave_it_out(tiny_bert, tmp_path, caplog):
    encoder = projected(tiny_bert)
    export_encoder(encoder, tmp_path / "m", {**CARD, "similarity": "cosine"})
    start = read_start(tmp_path / "m")
    recipe = EncoderSettings(str(tmp_path / "m"), pooling="cls").as_dict()
    found = resolve(recipe, (), start)
    assert found.settings["projection"] == 8
    assert "a projection to 8 (sciembed.json, instead of the recipe's None)" in str(found.line)
    without = resolve(recipe, ("projection",), start)
    assert "projection" not in without.settings
    assert any("encoder.projection is None, by your setting" in w for w in without.warnings)
    plain = Encoder.load(tmp_path / "m", projection=None)
    assert plain.dim == 32
    assert "has a projection, which is left out here" in caplog.text


def test_sentences_have_it_too(tiny_bert):
    encoder = projected(tiny_bert)
    papers = [("word1", ["word2 word3.", "word4 word5."])]
    (plain,) = encoder_of(tiny_bert, pooling="mean").encode_sentences(papers)
    expected = plain @ encoder.projection.weight.detach().T
    torch.testing.assert_close(encoder.encode_sentences(papers)[0], expected)


def test_a_wrong_width_or_pooling_is_told(tiny_bert, tmp_path, caplog):
    encoder = projected(tiny_bert)
    export_encoder(encoder, tmp_path / "m", {**CARD, "similarity": "cosine"})
    with pytest.raises(UserError, match="has a projection to 8 numbers; set it to 8, or to null"):
        encoder_of(tmp_path / "m", pooling="mean", projection=4)
    other = Encoder.load(tmp_path / "m", pooling="cls")
    assert other.dim == 32
    assert "It was learned for the pooling mean." in caplog.text
    assert Encoder.load(tmp_path / "m", pooling="mean").dim == 8
    (tmp_path / "m" / "sciembed.json").unlink()
    assert Encoder.load(tmp_path / "m", pooling="mean").dim == 8
    words = ["import", str(tmp_path / "m"), "--to", str(tmp_path / "s"), "--pooling", "sentences"]
    assert cli.main([*words, "--similarity", "best_match"]) == 0
    assert Encoder.load(tmp_path / "s").settings.projection is None


def test_an_encoder_without_it_shares_the_backbone(tiny_bert):
    encoder = projected(tiny_bert, normalize=True)
    plain = encoder.without_projection()
    assert plain.backbone is encoder.backbone
    assert not encoder.training
    with torch.no_grad():
        own = encoder.parts.projected(plain.encode_texts(TEXTS))
    torch.testing.assert_close(own, encoder.encode_texts(TEXTS), rtol=1e-5, atol=1e-5)


def test_weights_of_another_shape_or_none_are_refused(tmp_path):
    save_projection(new_projection(4, 3), tmp_path / FOLDER)
    assert load_projection(tmp_path / FOLDER, 4, 3).weight.shape == (3, 4)
    with pytest.raises(UserError, match="takes and gives 4 and 3 numbers; expected 4 and 2"):
        load_projection(tmp_path / FOLDER, 4, 2)
    (tmp_path / FOLDER / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UserError, match="holds no weights of a linear layer"):
        load_projection(tmp_path / FOLDER, 4, 3)


@pytest.mark.parametrize(
    "settings",
    [
        {"projection": 0},
        {"projection": 8, "pooling": "mix"},
        {"projection": 8, "pooling": "sentences"},
        {"projection": 8, "control_codes": True},
    ],
)
def test_what_takes_no_projection_is_refused(settings):
    with pytest.raises(UserError, match=r"encoder\.projection is"):
        EncoderSettings("somewhere", **settings)
