"""Published folders, invented in their published layouts, made ready to use."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from sciembed_train import cli
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.evaluation.systems import Model
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.inference.embedding import open_encoder
from sciembed_train.inference.options import EmbedSettings
from tests.helpers.json_files import change
from tests.helpers.masked_models import write_masked_lm


@pytest.fixture(scope="module")
def declutr(tmp_path_factory):
    """A DeCLUTR folder as published: a ``RobertaForMaskedLM`` and nothing else."""
    return write_masked_lm(tmp_path_factory.mktemp("declutr"), "roberta")


@pytest.fixture
def copy(declutr, tmp_path):
    """The same, in a folder that a test may change."""
    return shutil.copytree(declutr, tmp_path / "copy")


def run(*args):
    return cli.main(["import", *map(str, args)])


def refused(capsys, *args):
    assert run(*args) == 2
    error = capsys.readouterr().err
    assert error.startswith("./train import: ")
    assert error.count("\n") == 1
    return error


def record_of(folder):
    return json.loads((folder / "sciembed.json").read_text())


def test_a_published_model_gets_a_graph_where_it_is_asked_for(declutr, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    words = ["--to", tmp_path / "m", "--method", "declutr", "--onnx", "--quiet"]
    assert run(declutr, *words) == 0
    texts = ["a text", "another one " * 30]
    by_graph = open_encoder(tmp_path / "m", EmbedSettings(backend="onnx")).encode_texts(texts)
    expected = Encoder.load(tmp_path / "m").encode_texts(texts)
    assert torch.allclose(by_graph, expected, atol=1e-4)


@pytest.mark.parametrize("weights", ["safetensors", "bin", "old bin"])
def test_a_published_declutr_is_ready_to_use_with_its_weights_and_head(
    weights, copy, tmp_path, capsys
):
    tensors = load_file(copy / "model.safetensors")
    if weights != "safetensors":
        # As RoBERTas of 2020 have it: a buffer that is gone since, and the tied weights twice.
        shared = tensors["roberta.embeddings.word_embeddings.weight"]
        extra = {
            "roberta.embeddings.position_ids": torch.arange(514)[None],
            "lm_head.decoder.weight": shared,
            "lm_head.decoder.bias": tensors["lm_head.bias"],
        }
        (copy / "model.safetensors").unlink()
        torch.save(
            {**tensors, **extra},
            copy / "pytorch_model.bin",
            _use_new_zipfile_serialization=weights == "bin",
        )
    change(copy / "config.json", _name_or_path="johngiorgi/declutr-base")
    target = tmp_path / "m"
    assert run(copy, "--to", target) == 0
    said = capsys.readouterr().out
    assert "the mean over tokens, compared by cosine, at most 512 tokens, with a masked" in said
    assert "AutoModelForMaskedLM differs by" in said
    record = record_of(target)
    assert record["method"] == "declutr"
    assert record["similarity"] == "cosine"
    assert (record["pooling"], record["max_length"], record["texts"]) == ("mean", 512, "any")
    assert record["input_format"]["separator"] == "space"
    assert record["imported_from"] == "copy"
    assert len(record["imported_sha256"]) == 64
    kept = load_file(target / "model.safetensors")
    assert kept.keys() == tensors.keys()
    assert all(torch.equal(kept[name], value) for name, value in tensors.items())
    config = json.loads((target / "config.json").read_text())
    assert config["architectures"] == ["RobertaForMaskedLM"]
    assert str(tmp_path) not in "".join(p.read_text() for p in target.glob("*.*[nd]"))
    card = (target / "README.md").read_text()
    assert "Imported from `copy`" in card
    assert "fill-mask" in card
    assert "of sciembed_train" not in card
    # Ready to be evaluated as it was trained, fine-tuned, and pretrained further.
    assert Model(str(target), EmbedSettings(device="cpu")).scoring.similarity == "cosine"
    for masked_lm in (False, True):
        state = Encoder(EncoderSettings(str(target), "mean"), masked_lm=masked_lm).state_dict()
        assert any(key.startswith("head.") for key in state) == masked_lm
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            ours = f"backbone.{rest}" if part == "roberta" else f"head.{name}"
            assert masked_lm or ours.startswith("head.") or torch.equal(state[ours], value)
            assert not masked_lm or torch.equal(state[ours], value)


def test_a_hub_name_says_how_a_published_model_is_used(declutr, tmp_path, monkeypatch, capsys):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **_: str(declutr))
    assert run("johngiorgi/declutr-sci-base", "--to", tmp_path / "a", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["method"], result["pooling"], result["similarity"]) == (
        "declutr",
        "mean",
        "cosine",
    )
    assert result["masked_lm_head"] is True
    assert result["differences"]["AutoModelForMaskedLM"] < 1e-5
    record = record_of(tmp_path / "a")
    assert record["imported_from"] == record["base_model"] == "johngiorgi/declutr-sci-base"
    for name, method in (("allenai/specter", "specter"), ("allenai/specter2_base", "specter")):
        assert run(name, "--to", tmp_path / "b", "--overwrite", "--quiet") == 0
        record = record_of(tmp_path / "b")
        assert (record["method"], record["pooling"]) == (method, "cls")
        assert record["similarity"] == "euclidean"
        assert "texts" not in record
    assert capsys.readouterr().out == ""
    # Not a model itself, but adapters for specter2_base; nor is it the older model's name.
    assert "--method" in refused(capsys, "allenai/specter2", "--to", tmp_path / "c")


def test_a_folder_that_does_not_say_how_it_is_used_is_refused_until_it_is_told(
    declutr, tmp_path, capsys
):
    to = ("--to", tmp_path / "m")
    said = refused(capsys, declutr, *to)
    assert "does not record how its vectors are pooled" in said
    assert "--method declutr or specter" in said
    said = refused(capsys, declutr, *to, "--pooling", "mean")
    assert "does not record how its vectors are compared" in said
    assert not (tmp_path / "m").exists()
    assert run(declutr, *to, "--pooling", "mean", "--similarity", "cosine", "--quiet") == 0
    assert record_of(tmp_path / "m")["method"] is None
    assert run(declutr, *to, "--method", "declutr", "--overwrite", "--quiet") == 0
    assert record_of(tmp_path / "m")["method"] == "declutr"


def test_options_take_the_place_of_what_the_method_says(declutr, tmp_path):
    args = ("--method", "declutr", "--pooling", "cls", "--similarity", "euclidean", "--quiet")
    assert run(declutr, "--to", tmp_path / "m", *args, "--max-length", 40) == 0
    record = record_of(tmp_path / "m")
    assert (record["pooling"], record["similarity"], record["max_length"]) == (
        "cls",
        "euclidean",
        40,
    )


def test_a_length_that_does_not_fit_is_refused(declutr, tmp_path, capsys):
    to = ("--to", tmp_path / "m", "--method", "declutr", "--max-length")
    assert "positions for 512 tokens" in refused(capsys, declutr, *to, 600)
    assert "--max-length is 0" in refused(capsys, declutr, *to, 0)


def test_specter_keeps_its_pooler_and_has_no_head(tiny_bert, tmp_path, capsys, caplog):
    assert run(tiny_bert, "--to", tmp_path / "m", "--method", "specter") == 0
    said = capsys.readouterr().out
    assert "the first token's state, compared by Euclidean distance" in said
    assert "without a masked-language-modelling head" in said
    assert caplog.text == ""  # none is made either
    kept, original = (load_file(f / "model.safetensors") for f in (tmp_path / "m", tiny_bert))
    assert kept.keys() == original.keys()
    assert "pooler.dense.weight" in kept
    assert all(torch.equal(kept[name], value) for name, value in original.items())


def sentence_transformers_layout(folder, similarity):
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 77}))
    about = {"similarity_fn_name": similarity} if similarity else {}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("recorded", "similarity"),
    # The last: of unit vectors the dot product is the cosine.
    [(None, "cosine"), ("cosine", "cosine"), ("euclidean", "euclidean"), ("dot", "cosine")],
)
def test_a_sentence_transformers_folder_says_it_itself(recorded, similarity, copy, tmp_path):
    sentence_transformers_layout(copy, recorded)
    # It may have been fine-tuned from a published model into something else.
    change(copy / "config.json", _name_or_path="allenai/specter")
    assert run(copy, "--to", tmp_path / "m", "--quiet") == 0
    record = record_of(tmp_path / "m")
    assert (record["pooling"], record["max_length"]) == ("mean", 77)
    assert record["similarity"] == similarity
    assert record["method"] is None
    card = (tmp_path / "m" / "README.md").read_text()
    assert "An encoder for text: a text in" in card
    assert "What it was trained for is not recorded" in card
    assert "Citations were" not in card


def test_a_similarity_that_is_not_built_is_refused_unless_another_is_named(copy, tmp_path, capsys):
    sentence_transformers_layout(copy, "manhattan")
    assert "by manhattan" in refused(capsys, copy, "--to", tmp_path / "m")
    assert run(copy, "--to", tmp_path / "m", "--similarity", "cosine", "--quiet") == 0


def test_an_export_of_ours_keeps_what_it_records(declutr, tmp_path):
    encoder = Encoder.load(declutr, pooling="mean", max_length=100, masked_lm="auto")
    facts = {"method": "specter", "seed": 5, "base_model": "a/b", "training": {"triplets": 3}}
    export_encoder(encoder, tmp_path / "a", {**facts, "similarity": "cosine"})
    assert run(tmp_path / "a", "--to", tmp_path / "b", "--quiet") == 0
    record = record_of(tmp_path / "b")
    assert record.items() >= facts.items()
    assert (record["similarity"], record["pooling"], record["max_length"]) == (
        "cosine",
        "mean",
        100,
    )
    assert record["imported_from"] == "a"


def test_a_layout_that_is_not_read_is_refused_by_name(tmp_path, capsys):
    source = tmp_path / "source"
    source.mkdir()
    (source / "adapter_config.json").write_text("{}")
    error = refused(capsys, source, "--to", tmp_path / "m", "--method", "specter")
    assert "adapter_config.json: an adapter" in error
    assert "this version does not read" in error
    assert not (tmp_path / "m").exists()


def test_a_head_of_an_unknown_type_is_left_out_and_that_is_said(tiny_bert, tmp_path, caplog):
    from transformers import AutoTokenizer, ErnieConfig, ErnieForMaskedLM

    config = ErnieConfig(
        vocab_size=280,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
    )
    ErnieForMaskedLM(config).save_pretrained(tmp_path / "s")
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path / "s")
    encoder = Encoder.load(tmp_path / "s", masked_lm="auto")
    assert encoder.head is None
    assert run(tmp_path / "s", "--to", tmp_path / "m", "--method", "declutr", "--quiet") == 0
    assert "head of ernie is not known here and is left out" in caplog.text


def test_half_a_head_is_refused(copy, tmp_path, capsys):
    from safetensors.torch import save_file

    tensors = load_file(copy / "model.safetensors")
    del tensors["lm_head.dense.weight"]
    save_file(tensors, copy / "model.safetensors", {"format": "pt"})
    said = refused(capsys, copy, "--to", tmp_path / "m", "--method", "declutr")
    assert "1 of 5 tensors are missing (lm_head.dense.weight" in said


def test_a_full_target_is_refused_and_nothing_is_lost(declutr, tmp_path, capsys):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "notes.txt").write_text("mine")
    assert "not empty" in refused(capsys, declutr, "--to", tmp_path / "m", "--method", "declutr")
    assert (tmp_path / "m" / "notes.txt").read_text() == "mine"


def test_a_model_with_code_of_its_own_is_refused(copy, tmp_path, capsys):
    change(copy / "config.json", auto_map={"AutoModel": "code.Model"})
    assert "auto_map" in refused(capsys, copy, "--to", tmp_path / "m")
    assert "auto_map" in refused(capsys, copy, "--to", tmp_path / "m", "--method", "declutr")
