import json

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
