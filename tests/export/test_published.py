"""What a model is used as whose folder does not say so."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file

from sciembed_train import cli
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.export.published import published_as
from tests.helpers.json_files import change

ASPIRE = "aspire-contextualsentence"


@pytest.mark.parametrize(
    ("names", "method"),
    [
        (("johngiorgi/declutr-sci-base",), "declutr"),
        (("allenai/specter2_base",), "specter"),
        (("/cache/models--allenai--specter/snapshots/1",), "specter"),
        (("malteos/scincl",), "scincl"),
        (("allenai/aspire-biencoder-compsci-spec",), "cocite"),
        (("allenai/scibert_scivocab_uncased",), None),
        ((f"allenai/{ASPIRE}-singlem-compsci",), "tsaspire"),
        ((f"/data/{ASPIRE}-singlem-biomed",), "tsaspire"),
        ((f"/hub/models--allenai--{ASPIRE}-multim-biomed/snapshots/0f",), "otaspire"),
        (("allenai/aspire-sentence-embedder",), "cosentbert"),
        # What a model is called counts before what it was made from.
        ((f"{ASPIRE}-multim-compsci", "/tmp/m", "allenai/specter"), "otaspire"),
        (("/tmp/m", "allenai/specter"), "specter"),
        (("allenai/specter2",), None),
        ((f"my-{ASPIRE}-multim-biomed",), None),
        ((f"allenai/{ASPIRE}-multim-biomed-v2",), None),
        (("an-aspire-sentence-embedder",), None),
        ((None, ""), None),
    ],
)
def test_a_published_model_is_known_by_its_name(names, method):
    assert published_as(*names) == method


@pytest.fixture
def hub(tiny_bert, tmp_path):
    """Folders as on the hub: plain BERTs, which name the model they were made from."""

    def make(name):
        folder = shutil.copytree(tiny_bert, tmp_path / name)
        change(folder / "config.json", _name_or_path="allenai/specter")
        return folder

    return make


def run(source, to, *args):
    return cli.main(["import", str(source), "--to", str(to), *map(str, args)])


def refused(capsys, *args):
    assert run(*args) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def record_of(folder):
    return json.loads((folder / "sciembed.json").read_text())


def test_a_single_match_model_is_known_by_its_folder_and_keeps_its_weights(hub, tmp_path, caplog):
    source = hub(f"{ASPIRE}-singlem-biomed")
    assert run(source, tmp_path / "m", "--quiet") == 0
    record = record_of(tmp_path / "m")
    assert (record["method"], record["pooling"]) == ("tsaspire", "sentences")
    assert record["similarity"] == "best_match"
    assert record["input_format"] == {
        "separator": "sep",
        "sentences": "joined",
        "control_code": "",
        "cleaning": "markup",
    }
    assert "transport" not in record
    kept, given = (
        load_file(tmp_path / "m" / "model.safetensors"),
        load_file(source / "model.safetensors"),
    )
    assert kept.keys() == given.keys()
    assert all(torch.equal(kept[name], tensor) for name, tensor in given.items())
    assert caplog.text == ""


def test_a_transport_model_needs_a_temperature_that_somebody_names(hub, tmp_path, capsys):
    source, to = hub(f"{ASPIRE}-multim-compsci"), tmp_path / "m"
    error = refused(capsys, source, to)
    assert "Give --temperature" in error
    assert "trained with 5000" in error
    assert "its released demo has 1" in error
    assert not to.exists()
    assert "temperature is 0.0" in refused(capsys, source, to, "--temperature", 0)
    assert run(source, to, "--temperature", 5000) == 0
    assert "optimal transport between sentences (temperature 5000)" in capsys.readouterr().out
    wanted = {"temperature": 5000.0, "blur": 0.05, "scaling": 0.9}
    assert record_of(to)["transport"] == wanted
    # An export of ours keeps it, unless another is given.
    assert run(to, tmp_path / "n", "--quiet") == 0
    assert record_of(tmp_path / "n")["transport"] == wanted
    assert run(to, tmp_path / "n", "--temperature", 1, "--overwrite", "--quiet") == 0
    assert record_of(tmp_path / "n")["transport"] == {**wanted, "temperature": 1.0}


def test_the_sentence_embedder_reads_single_sentences_and_its_card_runs(hub, tmp_path):
    pytest.importorskip("sentence_transformers")
    assert run(hub("aspire-sentence-embedder"), tmp_path / "m", "--quiet") == 0
    record = record_of(tmp_path / "m")
    assert (record["method"], record["pooling"]) == ("cosentbert", "cls")
    assert (record["similarity"], record["texts"]) == ("euclidean", "sentences")
    card = (tmp_path / "m" / "README.md").read_text()
    assert "a sentence in, one vector" in card
    assert "sentences with a smaller Euclidean distance are more similar" in card
    assert "One sentence as it is, by itself." in card
    assert "whole abstracts are a different task" in " ".join(card.split())
    encoder = Encoder.load(tmp_path / "m")
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        names = {}
        exec(block.replace("PATH_OR_NAME_OF_THIS_MODEL", str(tmp_path / "m")), names)
        found = torch.as_tensor(names["embeddings"])
        assert (found - encoder.encode_texts(names["texts"])).abs().max() < 1e-5


def test_what_only_the_configuration_names_is_used_with_a_warning(hub, tmp_path, caplog):
    source = hub("renamed")
    assert run(source, tmp_path / "m", "--quiet") == 0
    assert record_of(tmp_path / "m")["method"] == "specter"
    assert "its configuration names allenai/specter" in caplog.text
    caplog.clear()
    assert run(source, tmp_path / "n", "--method", "tsaspire", "--quiet") == 0
    assert record_of(tmp_path / "n")["similarity"] == "best_match"
    told = ("--pooling", "sentences", "--similarity", "best_match")
    assert run(source, tmp_path / "o", *told, "--quiet") == 0
    assert record_of(tmp_path / "o")["method"] is None
    assert caplog.text == ""


def test_pooling_and_similarity_that_do_not_go_together_are_refused(hub, tmp_path, capsys):
    source, to = hub("renamed"), tmp_path / "m"
    for words in (
        ("--pooling", "sentences", "--similarity", "cosine"),
        ("--pooling", "mean", "--similarity", "best_match"),
        ("--method", "tsaspire", "--similarity", "euclidean"),
    ):
        assert "do not fit together" in refused(capsys, source, to, *words)
    words = ("--pooling", "cls", "--similarity", "cosine", "--temperature", 5)
    assert "not compared by optimal transport" in refused(capsys, source, to, *words)
    change(source / "config.json", _name_or_path="x")
    error = refused(capsys, source, to, "--pooling", "sentences")
    assert "similarity" in error


def test_a_head_is_left_out_of_a_multi_vector_model_and_that_is_said(tmp_path, caplog):
    from tests.helpers.masked_models import write_masked_lm

    source = write_masked_lm(tmp_path / "s", "roberta")
    assert run(source, tmp_path / "m", "--method", "tsaspire", "--quiet") == 0
    assert "is no part of a multi-vector model and is left out" in caplog.text
    assert not [key for key in load_file(tmp_path / "m" / "model.safetensors") if "lm_head" in key]
