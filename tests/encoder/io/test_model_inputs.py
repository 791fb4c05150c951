import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.model_inputs import check_model_inputs
from sciembed_train.errors import UserError
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.methods.specter import Specter


@pytest.fixture
def distilbert(tiny_bert, tmp_path):
    """A DistilBERT beside the tokenizer of a BERT, as many are published."""
    folder = tmp_path / "distilbert"
    shutil.copytree(tiny_bert, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    size = len(AutoTokenizer.from_pretrained(str(tiny_bert)))
    config = DistilBertConfig(vocab_size=size, dim=32, n_heads=2, n_layers=2, hidden_dim=64)
    DistilBertModel(config).save_pretrained(folder)
    return folder


class Narrow(torch.nn.Module):
    def forward(self, input_ids, attention_mask=None):
        return input_ids


class Open(torch.nn.Module):
    def forward(self, input_ids, **kwargs):
        return input_ids


def test_inputs_that_the_backbone_does_not_take_are_named_with_the_remedy():
    bert = SimpleNamespace(model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    with pytest.raises(UserError, match="here: its tokenizer makes token_type_ids, which a Narrow"):
        check_model_inputs(Narrow(), bert, "here")
    with pytest.raises(UserError, match=r'"model_input_names": \["input_ids", "attention_mask"\]'):
        check_model_inputs(Narrow(), bert, "here")
    check_model_inputs(Open(), bert, "here")
    check_model_inputs(Narrow(), SimpleNamespace(model_input_names=["input_ids"]), "here")


def test_what_could_not_be_exported_is_refused_before_training_and_the_remedy_helps(
    distilbert, tmp_path
):
    takes_all = any(p.kind is p.VAR_KEYWORD for p in _forward_parameters())
    if takes_all:
        pytest.skip("this transformers takes any further input")
    settings = EncoderSettings(str(distilbert), max_length=16)
    with pytest.raises(UserError, match="token_type_ids"):
        Specter(settings)
    with pytest.raises(UserError, match="token_type_ids"):
        export_encoder(Encoder(settings), tmp_path / "export", {"method": "specter"})
    assert not (tmp_path / "export").exists()
    path = distilbert / "tokenizer_config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "model_input_names": ["input_ids", "attention_mask"]}))
    method = Specter(settings)
    differences = export_encoder(method.encoder, tmp_path / "export", {"method": "specter"})
    assert differences["AutoModel"] < 1e-5


def _forward_parameters():
    import inspect

    return inspect.signature(DistilBertModel.forward).parameters.values()
