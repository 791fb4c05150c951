import json
import shutil

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.safety import check_config, check_config_json, load_pickled, weight_format

REFUSED = [
    {"_attn_implementation_internal": "someone/kernel"},
    {"_attn_implementation": "someone/kernel"},
    {"attn_implementation": {"": "someone/kernel"}},
    {"attn_implementation": "flash_attention_2"},
    {"text_config": {"_attn_implementation_internal": "sdpa"}},
    {"layers": [{"deep": {"auto_map": {"AutoModel": "code.Model"}}}]},
    {"auto_map": {"AutoModel": "code.Model"}},
    {"_experts_implementation_internal": "someone/kernel"},
    {"quantization_config": {"quant_method": "x"}},
    {"transformers_weights": "other.bin"},
]


@pytest.mark.parametrize("extra", REFUSED, ids=lambda e: next(iter(e)))
def test_a_configuration_that_could_run_code_is_refused_by_key(extra):
    with pytest.raises(
        UserError, match=r"here\.json: .*`.*(_internal|attn|auto_map|quant|weights)"
    ):
        check_config({"model_type": "bert", **extra}, "here.json")


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"_attn_implementation_autoset": True},
        {"_attn_implementation": "sdpa"},
        {"attn_implementation": None},
        {"auto_map": None},
    ],
)
def test_an_ordinary_configuration_passes(extra):
    check_config({"model_type": "bert", "hidden_size": 32, **extra}, "here.json")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_the_files_are_checked_before_transformers_reads_them(
    tmp_path, tiny_bert, name, monkeypatch
):

    import transformers

    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    content = json.loads((folder / name).read_text())
    content["auto_map"] = {"AutoModel": "code.Model", "AutoTokenizer": ["code.Tokenizer", None]}
    (folder / name).write_text(json.dumps(content))

    def read(*_, **__):
        raise AssertionError("transformers was asked first")

    for kind in (transformers.AutoConfig, transformers.AutoModel, transformers.AutoTokenizer):
        monkeypatch.setattr(kind, "from_pretrained", read)
    monkeypatch.setattr(transformers.AutoConfig, "for_model", read)
    with pytest.raises(UserError, match=rf"{name}: the key `auto_map`"):
        Encoder(EncoderSettings(str(folder)))
    with pytest.raises(UserError, match=rf"{name}: the key `auto_map`"):
        Encoder.load(folder)


def test_a_configuration_that_is_no_object_or_no_json_is_refused(tmp_path):
    for text, message in (("[1]", "expected a JSON object"), ("{", "not valid JSON")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=message):
            check_config_json(tmp_path)


def test_an_adapter_folder_is_told_apart(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="is an adapter"):
        check_config_json(tmp_path)


def test_safetensors_are_preferred(tmp_path):
    (tmp_path / "pytorch_model.bin").touch()
    assert weight_format(tmp_path) == "bin"
    (tmp_path / "model.safetensors.index.json").touch()
    assert weight_format(tmp_path) == "safetensors"


def test_a_pickle_that_asks_for_code_is_refused_with_what_to_do(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "tensors")
    assert load_pickled(tmp_path / "tensors", "checkpoint", "").keys() == {"a"}
    torch.save({"a": print}, tmp_path / "code")
    message = r"code: is no checkpoint that can be read safely: it asks for \S*print\. Fetch"
    with pytest.raises(UserError, match=message):
        load_pickled(tmp_path / "code", "checkpoint", "Fetch another.")
