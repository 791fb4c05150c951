import json

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.start_model import read_start
from sciembed_train.export.export_folder import export_encoder
from tests.helpers.exports import CARD, encoder_of


def test_the_layout_names_only_modules_that_old_versions_have(tiny_bert, tmp_path):
    export_encoder(encoder_of(tiny_bert, pooling="mean"), tmp_path / "m", CARD)
    modules = json.loads((tmp_path / "m" / "modules.json").read_text())
    assert [m["type"] for m in modules] == [
        "sentence_transformers.models.Transformer",
        "sentence_transformers.models.Pooling",
    ]
    assert [m["path"] for m in modules] == ["", "1_Pooling"]
    pooling = json.loads((tmp_path / "m" / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == 32
    assert [k for k, v in pooling.items() if v is True] == [
        "pooling_mode_mean_tokens",
        "include_prompt",
    ]
    limits = json.loads((tmp_path / "m" / "sentence_bert_config.json").read_text())
    assert limits == {"max_seq_length": 512, "do_lower_case": False}


def test_the_prompts_of_a_start_are_kept_and_used_for_nobody_who_asks_for_none(tiny_bert, tmp_path):
    prompts = {"query": "query: ", "passage": "passage: "}
    encoder = encoder_of(tiny_bert, pooling="mean", prompts=prompts)
    export_encoder(encoder, tmp_path / "m", CARD)
    about = json.loads((tmp_path / "m" / "config_sentence_transformers.json").read_text())
    assert (about["prompts"], about["default_prompt_name"]) == (prompts, None)
    assert Encoder.load(tmp_path / "m").settings.prompts == prompts
    start = read_start(tmp_path / "m")
    assert (start.prompts, start.sources["prompts"]) == (prompts, "sciembed.json")
