"""What folders of this program and of sentence-transformers record of their models."""

import json

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.model_metadata import read_metadata, tokenizer_folder
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError
from tests.helpers.json_files import change
from tests.helpers.prompted_models import PROMPTS, write_prompted


def sentence_transformers_layout(folder, pooling, kind="models", **bert):
    types = {
        "models": "sentence_transformers.models.{}",
        "new": "sentence_transformers.sentence_transformer.modules.{}",
    }[kind]
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": types.format("Transformer")},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": types.format("Pooling")},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": types.format("Normalize")},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps(bert))
    return modules


@pytest.mark.parametrize(
    ("kind", "pooling", "expected"),
    [
        ("models", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ("models", {"pooling_mode_mean_tokens": True}, "mean"),
        ("new", {"embedding_dimension": 32, "pooling_mode": "mean"}, "mean"),
        ("new", {"pooling_mode": ["cls"]}, "cls"),
    ],
)
def test_a_sentence_transformers_folder_tells_its_pooling_and_length(copy, kind, pooling, expected):
    sentence_transformers_layout(copy, pooling, kind, max_seq_length=77)
    encoder = Encoder.load(copy)
    assert encoder.settings.pooling == expected
    assert encoder.settings.max_length == 77
    assert encoder.settings.normalize
    lengths = encoder.encode_texts(["a text", "another one of more words"]).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(2))


@pytest.mark.parametrize("backbone", ["tiny_bert", "tiny_roberta", "tiny_modernbert"])
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_papers_are_read_behind_the_prompt_as_the_library_reads_them(
    backbone, pooling, request, tmp_path
):
    library = pytest.importorskip("sentence_transformers")
    folder = write_prompted(request.getfixturevalue(backbone), tmp_path / "m", pooling)
    encoder = Encoder.load(folder)
    assert encoder.settings.input_format.prompt == PROMPTS["passage"]
    model = library.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    papers = [("word4 word5", "word6 a b."), ("word7", None), ("(word8) " * 60, "word9")]
    plain = [encoder.compose(*paper, prompt="") for paper in papers]
    for name, prompt in PROMPTS.items():
        expected = model.encode(plain, prompt_name=name, convert_to_tensor=True)
        actual = encoder.encode_texts([encoder.compose(*paper, prompt=prompt) for paper in papers])
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    expected = model.encode(plain, prompt_name="passage", convert_to_tensor=True)
    actual = encoder.encode_texts([encoder.compose(*paper) for paper in papers])
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    bare = model.encode(plain, convert_to_tensor=True)
    assert (bare - expected).abs().max() > 1e-3


def test_a_pooling_without_the_prompt_is_not_built(tiny_bert, tmp_path, caplog):
    encoder = Encoder.load(write_prompted(tiny_bert, tmp_path / "m", include_prompt=False))
    assert (encoder.settings.prompts, encoder.settings.input_format.prompt) == ({}, "")
    assert "include_prompt is false" in caplog.text


def test_a_backbone_in_a_sub_folder_has_its_tokenizer_there(copy, tmp_path):
    assert tokenizer_folder(copy) == copy
    modules = sentence_transformers_layout(copy, {"pooling_mode_max_tokens": True})
    modules[0]["path"] = "0_Transformer"
    (copy / "modules.json").write_text(json.dumps(modules))
    inside = copy / "0_Transformer"
    inside.mkdir()
    for path in [p for p in copy.iterdir() if p.is_file() and p.name != "modules.json"]:
        path.rename(inside / path.name)
    assert tokenizer_folder(copy) == inside
    encoder = Encoder(EncoderSettings(str(copy), "mean"))
    assert encoder.tokenizer.fingerprint == Encoder.load(inside).tokenizer.fingerprint


def test_what_vectors_are_compared_by_is_read_where_it_is_recorded(copy):
    assert read_metadata(copy).similarity is None
    modules = sentence_transformers_layout(copy, {"pooling_mode": "cls"})
    assert read_metadata(copy).similarity == "cosine"
    assert read_metadata(copy).sources["similarity"] == "modules.json"
    about = copy / "config_sentence_transformers.json"
    about.write_text(json.dumps({"similarity_fn_name": "dot"}))
    assert read_metadata(copy).similarity == "cosine"  # of unit vectors
    (copy / "modules.json").write_text(json.dumps(modules[:2]))
    assert read_metadata(copy).similarity == "dot"
    about.write_text(json.dumps({"similarity_fn_name": "euclidean"}))
    assert read_metadata(copy).similarity == "euclidean"
    about.write_text(json.dumps({"prompts": {"query": "query: ", "passage": ""}}))
    assert read_metadata(copy).similarity == "cosine"  # the library's default
    assert read_metadata(copy).sources["similarity"] == "sentence-transformers' default"
    assert read_metadata(copy).prompts == {"query": "query: ", "passage": ""}
    about.write_text(json.dumps({"prompts": {"query": "", "document": ""}}))
    assert read_metadata(copy).prompts == {}  # as the library writes for models without any
    about.write_text("[]")
    with pytest.raises(UserError, match=r"sentence_transformers.json: expected a JSON object"):
        read_metadata(copy)
    about.unlink()
    Encoder.load(copy).save(copy)
    assert (
        read_metadata(copy).similarity == "euclidean"
    )  # as folders without the entry were trained
    Encoder.load(copy).save(copy, {"similarity": "cosine"})
    assert read_metadata(copy).similarity == "cosine"


def test_the_newer_layout_keeps_the_length_with_the_tokenizer(copy):
    sentence_transformers_layout(copy, {"pooling_mode": "cls"}, "new")
    change(copy / "tokenizer_config.json", model_max_length=66)
    assert Encoder.load(copy).settings.max_length == 66


def test_the_real_sentence_encoder_is_read_as_published(minilm):
    encoder = Encoder.load(minilm)
    assert (encoder.settings.pooling, encoder.settings.max_length) == ("mean", 256)
    assert encoder.settings.normalize
    library = pytest.importorskip("sentence_transformers")
    texts = ["Citations relate papers.", "A longer text. " * 100]
    model = library.SentenceTransformer(str(minilm), device="cpu", local_files_only=True)
    expected = model.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    torch.testing.assert_close(encoder.encode_texts(texts), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: m[1].update(path="../else"), "leads out of the folder"),
        (lambda m: m[0].update(type="x.CLIPModel"), "expected Transformer"),
        (lambda m: m[2].update(type="x.Dense"), "bias or activation"),
        (lambda m: m.insert(2, {**m[2]}), "the module Normalize"),
        (lambda m: m[2].pop("path"), "`type` and `path`"),
    ],
)
def test_a_sentence_transformers_folder_that_cannot_be_run_is_refused(copy, spoil, message):
    modules = sentence_transformers_layout(copy, {"pooling_mode": "cls"})
    spoil(modules)
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UserError, match=message):
        Encoder.load(copy)


def test_a_pooling_that_is_not_built_is_refused_unless_another_is_named(copy):
    sentence_transformers_layout(copy, {"pooling_mode_max_tokens": True})
    with pytest.raises(UserError, match="pools by max"):
        Encoder.load(copy)
    assert Encoder.load(copy, pooling="mean").settings.pooling == "mean"
    assert Encoder(EncoderSettings(str(copy))).settings.pooling == "cls"


def test_a_spoiled_record_is_refused(copy):
    (copy / "sciembed.json").write_text(json.dumps({"pooling": "cls"}))
    with pytest.raises(UserError, match=r"sciembed\.json: .*max_length"):
        Encoder.load(copy)
