"""An encoder's folder: what is written, and what comes back."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
from tests.helpers.adapter_models import (
    CODES,
    adapted_encoder,
    ragged,
)

TEXTS = ["word1 word2 word3", "word4", "word5 " * 40, ""]


def test_saving_and_loading_give_the_same_vectors_and_settings(tiny_roberta, tmp_path):
    input_format = InputFormat("space", "joined", "[CLF]")
    settings = EncoderSettings(str(tiny_roberta), "mean", 100, input_format, dropout=0.3)
    encoder = Encoder(settings)
    encoder.save(tmp_path / "a", {"method": "specter", "seed": 3})
    again = Encoder.load(tmp_path / "a")
    assert (again.settings.pooling, again.settings.max_length) == ("mean", 100)
    assert again.settings.input_format == input_format
    torch.testing.assert_close(
        again.encode_texts(TEXTS), encoder.encode_texts(TEXTS), rtol=0, atol=0
    )
    record = json.loads((tmp_path / "a/sciembed.json").read_text())
    assert (record["method"], record["seed"], record["version"]) == ("specter", 3, 1)
    config = json.loads((tmp_path / "a/config.json").read_text())
    # A setting of this training, not of the model that others fine-tune further.
    assert config["hidden_dropout_prob"] == 0.1
    assert encoder.backbone.config.hidden_dropout_prob == 0.3
    assert str(tiny_roberta) not in "".join(p.read_text() for p in (tmp_path / "a").glob("*.json"))


def test_a_saved_folder_is_what_transformers_loads(tiny_bert, tmp_path):
    from transformers import AutoModel, AutoTokenizer

    encoder = Encoder(EncoderSettings(str(tiny_bert), max_length=32))
    encoder.save(tmp_path)
    model, tokenizer = AutoModel.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer(TEXTS, padding=True, truncation=True, return_tensors="pt")
    assert batch["input_ids"].shape[1] == 32
    with torch.no_grad():
        vectors = model.eval()(**batch).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder.encode_texts(TEXTS), vectors, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_saved_encoder_is_loaded_with_its_adapters(tiny_bert, tmp_path, pooling):
    few = AdapterSettings(formats=("proximity", "classification"), config="seq_bn", reduction=4)
    encoder = adapted_encoder(tiny_bert, "float32", few, pooling=pooling, max_length=100).eval()
    encoder.save(tmp_path / "model", {"method": "tasks"})
    again = Encoder.load(tmp_path / "model")
    assert again.settings.adapters == few
    assert (again.settings.pooling, again.settings.max_length) == (pooling, 100)
    rows, formats = ragged([4, 9, 7]), torch.tensor([2, 0, 2])
    assert torch.equal(again(rows, formats), encoder(rows, formats))
    # Training goes on with one of them, from where it is.
    one = AdapterSettings(formats=("classification",), config="seq_bn[reduction_factor=4]")
    on = Encoder(dataclasses.replace(again.settings, adapters=one)).eval()
    assert torch.equal(on(rows), encoder(rows, torch.zeros(3, dtype=torch.int64)))


def test_a_saved_folder_has_the_plain_base_and_loads_as_no_plain_model(tiny_bert, tmp_path, caplog):
    from transformers import AutoModel

    encoder = adapted_encoder(tiny_bert, "float32").eval()
    folder = tmp_path / "a-bert-model"
    encoder.save(folder)
    assert sorted(p.name for p in folder.iterdir()) == ["adapters", "base", "sciembed.json"]
    assert sorted(p.name for p in (folder / "adapters").iterdir()) == sorted(CODES)
    with pytest.raises((OSError, ValueError)):
        AutoModel.from_pretrained(folder)
    first, base = (
        load_file(tiny_bert / "model.safetensors"),
        load_file(folder / "base" / "model.safetensors"),
    )
    assert first.keys() == base.keys()
    assert all(torch.equal(first[k], base[k]) for k in first)
    assert "adapters" not in (folder / "base" / "config.json").read_text()
    assert str(tmp_path) not in "".join(p.read_text() for p in folder.rglob("*.json"))
    assert str(tiny_bert) not in "".join(p.read_text() for p in folder.rglob("*.json"))
    # Saving leaves the encoder as it was, and it can be trained on.
    encoder.train()(ragged([5]), torch.tensor([1])).sum().backward()
    plain = Encoder(EncoderSettings(str(folder)))
    assert "has adapters, which are left out here" in caplog.text
    assert not plain.format_reader.reads_formats


def test_a_folder_whose_base_was_exchanged_is_refused(tiny_bert, tmp_path):
    from tests.helpers.tiny_models import write_tiny_bert

    adapted_encoder(tiny_bert, "float32").save(tmp_path / "model")
    write_tiny_bert(tmp_path / "model" / "base", seed=4)
    with pytest.raises(UserError, match="whose weights are other ones than those of this backbone"):
        Encoder.load(tmp_path / "model")
