import json
import shutil

import pytest

from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.safety.model_config import check_config_json, clean_config

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
    {"backbone": "someone/model", "use_pretrained_backbone": True},
    {"use_timm_backbone": True},
    {"backbone_kwargs": {"trust_remote_code": True}},
    {"backbone_config": {"model_type": "resnet"}},
    {"keypoint_detector_config": {"_name_or_path": "someone/model"}},
    {"text_config": {"vision": [{"trust_remote_code": True}]}},
    {"custom_generate": "someone/model"},
    {"gguf_file": "model.gguf"},
]


@pytest.mark.parametrize("extra", REFUSED, ids=lambda e: next(iter(e)))
def test_a_configuration_that_could_run_code_is_refused_by_key(extra):
    with pytest.raises(
        UserError,
        match=r"here\.json: .*`.*(_internal|attn|auto_map|quant|weights|backbone|keypoint|trust|"
        "custom|gguf)",
    ):
        clean_config({"model_type": "bert", **extra}, "here.json")


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
    clean_config({"model_type": "bert", "hidden_size": 32, **extra}, "here.json")


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
    if name == "config.json":
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


@pytest.mark.parametrize(
    "model_type", ["detr", "tvp", "lightglue", "t5", "gpt2", "no-such", 3, None]
)
def test_a_model_type_that_is_not_listed_is_refused_with_the_list(model_type):
    with pytest.raises(UserError, match=r"here\.json: .*model_type.*albert, bert, .*roberta"):
        clean_config({"model_type": model_type, "hidden_size": 32}, "here.json")


def test_an_encoder_decoder_is_refused():
    with pytest.raises(UserError, match="`is_encoder_decoder` is true"):
        clean_config({"model_type": "bert", "is_encoder_decoder": True}, "here.json")


def test_unknown_keys_are_left_out_and_named_once(caplog):
    content = {"model_type": "bert", "hidden_size": 32, "mystery": [1], "other": None, "top_k": 5}
    for _ in range(2):
        assert clean_config(content, "once.json") == {"model_type": "bert", "hidden_size": 32}
    assert [record.getMessage() for record in caplog.records] == [
        "once.json: left out `mystery`, `other`: not among the keys that a model of type bert may "
        "have here."
    ]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("num_hidden_layers", 10**7, "from 0 to 512"),
        ("vocab_size", 10**9, "from 1 to 5,000,000"),
        ("hidden_size", "x", "a whole number"),
        ("hidden_size", 0, "a whole number"),
        ("hidden_size", True, "a whole number"),
        ("hidden_size", 10**400, "a whole number"),
        ("num_attention_heads", [2], "a whole number"),
        ("hidden_act", "someone/kernel", "one of gelu"),
        ("hidden_act", {"a": 1}, "one of gelu"),
        ("hidden_dropout_prob", 2, "a number from 0 to 1"),
        ("layer_norm_eps", float("nan"), "a number"),
        ("is_decoder", "yes", "true or false"),
        ("architectures", ["../x"], "a name"),
        ("pad_token_id", 10**12, "a whole number"),
    ],
)
def test_a_value_that_no_encoder_has_is_a_message_with_the_key(key, value, expected):
    with pytest.raises(UserError, match=rf"here\.json: `{key}` is .*; expected .*{expected}"):
        clean_config({"model_type": "bert", key: value}, "here.json")


def test_a_padding_token_outside_the_vocabulary_is_said():
    content = {"model_type": "bert", "vocab_size": 50, "pad_token_id": 50}
    with pytest.raises(UserError, match="expected one of the 50 tokens of `vocab_size`"):
        clean_config(content, "here.json")
