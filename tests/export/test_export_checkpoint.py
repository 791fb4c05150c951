import json
import os
import pickle
import subprocess
import sys

import pytest
import torch

from sciembed_train import cli
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import describe
from sciembed_train.export.checkpoint_file import card_of
from sciembed_train.export.export_checkpoint import describe_differences
from tests.helpers.masked_models import write_masked_lm


@pytest.fixture(scope="module")
def trained(tiny_bert):
    """An encoder whose weights are not those of its backbone's folder."""
    encoder = Encoder(EncoderSettings(str(tiny_bert), pooling="mean", dropout=0.0)).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    return encoder


def write_checkpoint(path, encoder, **changes):
    content = {
        "state_dict": {f"encoder.{k}": v for k, v in encoder.state_dict().items()},
        "global_step": 40,
        "epoch": 1,
        "sciembed": {
            "version": 1,
            "method": "specter",
            **describe(encoder),
            "training": {
                "triplets": 4321,
                "seed": 11,
                "recipe": "specter",
                "steps_per_epoch": 16,
                "base_model": "somebody/some-bert",
                "base_model_sha256": "0f" * 32,
            },
        },
    }
    content.update(changes)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def run(*args):
    return cli.main(["export", *map(str, args)])


def test_a_checkpoint_becomes_a_folder_with_the_trained_vectors(trained, tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "run" / "step.ckpt", trained)
    assert run(checkpoint, "--to", tmp_path / "m") == 0
    said = capsys.readouterr().out
    assert "AutoModel differs by" in said
    texts = ["word1[SEP]word2 word3", "word9"]
    again = Encoder.load(tmp_path / "m")
    assert torch.allclose(again.encode_texts(texts), trained.encode_texts(texts), atol=1e-6)
    record = json.loads((tmp_path / "m" / "sciembed.json").read_text())
    assert record["method"] == "specter"
    assert record["seed"] == 11
    assert record["recipe"] == "specter"
    assert record["base_model"] == "somebody/some-bert"
    assert record["base_model_sha256"] == "0f" * 32
    assert record["training"] == {
        "triplets": 4321,
        "steps": 40,
        "steps_per_epoch": 16,
        "epochs": 2.5,
    }


@pytest.mark.parametrize(
    ("entry", "training", "similarity", "texts"),
    [
        (None, {"triplets": 5}, "euclidean", None),
        ("cosine", {"training_documents": 5}, "cosine", "any"),
    ],
)
def test_what_vectors_are_compared_by_comes_with_the_checkpoint(entry, training, similarity, texts):
    record = {"method": "m", "training": training, **({"similarity": entry} if entry else {})}
    card = card_of({"sciembed": record, "global_step": 1})
    assert card["similarity"] == similarity
    assert card.get("texts") == texts


def test_a_checkpoint_with_a_head_is_exported_with_it(tmp_path):
    from safetensors import safe_open

    backbone = write_masked_lm(tmp_path / "b", "roberta")
    encoder = Encoder(EncoderSettings(str(backbone), "mean", dropout=0.0), masked_lm=True).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.01)
    checkpoint = write_checkpoint(tmp_path / "x.ckpt", encoder)
    assert run(checkpoint, "--to", tmp_path / "m", "--quiet") == 0
    head = encoder.state_dict()
    with safe_open(tmp_path / "m" / "model.safetensors", "pt") as tensors:
        for name in ("lm_head.bias", "lm_head.dense.weight", "lm_head.layer_norm.bias"):
            assert torch.equal(tensors.get_tensor(name), head[f"head.{name}"])


def test_of_a_run_the_best_checkpoint_is_taken_else_the_last(trained, tmp_path, capsys):
    folder = tmp_path / "run"
    write_checkpoint(folder / "last.ckpt", trained, global_step=2)
    assert run(folder, "--to", tmp_path / "a", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["checkpoint"] == str(folder / "last.ckpt")
    assert said["differences"]["AutoModel"] < 1e-5
    write_checkpoint(folder / "best.ckpt", trained, global_step=1)
    assert run(folder, "--to", tmp_path / "b", "--quiet") == 0
    assert capsys.readouterr().out == ""
    record = json.loads((tmp_path / "b" / "sciembed.json").read_text())
    assert record["training"]["steps"] == 1


def refused(capsys, *args):
    assert run(*args) == 2
    error = capsys.readouterr().err
    assert error.startswith("./train export: ")
    assert error.count("\n") == 1
    return error


def test_wrong_sources_are_refused_by_name(trained, tmp_path, capsys):
    to = ("--to", tmp_path / "m")
    assert "does not exist" in refused(capsys, tmp_path / "none.ckpt", *to)
    (tmp_path / "empty").mkdir()
    assert "best.ckpt" in refused(capsys, tmp_path / "empty", *to)
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    assert "text.ckpt" in refused(capsys, tmp_path / "text.ckpt", *to)
    whole = write_checkpoint(tmp_path / "whole.ckpt", trained).read_bytes()
    (tmp_path / "half.ckpt").write_bytes(whole[: len(whole) // 2])
    assert "half.ckpt" in refused(capsys, tmp_path / "half.ckpt", *to)
    torch.save([1, 2], tmp_path / "list.ckpt")
    assert "list" in refused(capsys, tmp_path / "list.ckpt", *to)
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    assert "train fit" in refused(capsys, tmp_path / "foreign.ckpt", *to)
    assert not (tmp_path / "m").exists()


class Trap:
    def __reduce__(self):
        return (exec, ("open('sprung', 'w').close()",))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(zipped, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if zipped:
        torch.save({"sciembed": Trap()}, "evil.ckpt")
    else:
        (tmp_path / "evil.ckpt").write_bytes(pickle.dumps({"sciembed": Trap()}))
    assert "read safely" in refused(capsys, "evil.ckpt", "--to", "m")
    assert not (tmp_path / "sprung").exists()


def test_a_full_target_is_refused_before_the_model_is_built(trained, tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "x.ckpt", trained)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "notes.txt").write_text("mine")
    assert "not empty" in refused(capsys, checkpoint, "--to", tmp_path / "m")
    assert "no earlier export" in refused(capsys, checkpoint, "--to", tmp_path / "m", "--overwrite")
    assert (tmp_path / "m" / "notes.txt").read_text() == "mine"


def test_layouts_that_are_not_built_are_not_offered(tmp_path, capsys):
    assert run(tmp_path, "--to", tmp_path / "m", "--layout", "onnx") == 2
    assert "onnx" in capsys.readouterr().err


def test_what_was_not_compared_is_said():
    line = describe_differences({"AutoModel": 1e-7, "SentenceTransformer": None})
    assert "AutoModel differs by 1.0e-07" in line
    assert "not installed: SentenceTransformer" in line


def test_json_is_alone_on_stdout_whatever_libraries_print(trained, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "x.ckpt", trained)
    words = ["export", str(checkpoint), "--to", str(tmp_path / "m"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "sciembed_train.cli", *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "WANDB_MODE": "offline"},
    )
    assert json.loads(done.stdout)["folder"] == str(tmp_path / "m")
