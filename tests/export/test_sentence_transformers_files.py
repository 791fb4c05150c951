import json

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.start_model import read_start
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.text.input_format import InputFormat
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


@pytest.mark.parametrize("backbone", ["tiny_bert", "tiny_roberta"])
@pytest.mark.parametrize("prompts", [{"query": "word1: ", "passage": "word2: "}, {}])
def test_the_library_reads_papers_behind_the_prompt_that_they_were_trained_with(
    backbone, prompts, request, tmp_path
):
    library = pytest.importorskip("sentence_transformers")
    encoder = encoder_of(
        request.getfixturevalue(backbone),
        pooling="mean",
        prompts=prompts,
        input_format=InputFormat(prompt="word2: "),
    )
    differences = export_encoder(encoder, tmp_path / "m", CARD)
    assert differences["SentenceTransformer"] <= 1e-5
    about = json.loads((tmp_path / "m" / "config_sentence_transformers.json").read_text())
    assert about["default_prompt_name"] == "document"
    assert about["prompts"] == {"query": "word2: ", **prompts, "document": "word2: "}
    again = Encoder.load(tmp_path / "m")
    assert (again.settings.prompts, again.settings.input_format.prompt) == (prompts, "word2: ")
    model = library.SentenceTransformer(str(tmp_path / "m"), device="cpu", local_files_only=True)
    for encode, prompt in (
        (model.encode, "word2: "),
        (model.encode_document, "word2: "),
        (model.encode_query, prompts.get("query", "word2: ")),
    ):
        expected = encoder.encode_texts([encoder.compose("word3 a", "word4", prompt)])
        vectors = encode([encoder.compose("word3 a", "word4", "")], convert_to_tensor=True)
        torch.testing.assert_close(vectors, expected, rtol=0, atol=1e-5)
    card = (tmp_path / "m" / "README.md").read_text()
    assert "Before it the prompt `word2: `" in card
    assert 'texts = ["word2: " + text for text in texts]' in card
    assert ("behind the prompt `word1: `" in card) == bool(prompts)
