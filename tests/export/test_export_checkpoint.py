import json
import os
import subprocess
import sys

import pytest
import torch

from sciembed_train import cli
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.export.export_checkpoint import describe_differences
from sciembed_train.inference.embedding import open_encoder
from sciembed_train.inference.options import EmbedSettings
from tests.helpers.exports import write_checkpoint
from tests.helpers.masked_models import write_masked_lm


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


def test_a_graph_is_written_where_it_is_asked_for_and_embed_takes_it(trained, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    checkpoint = write_checkpoint(tmp_path / "run" / "step.ckpt", trained)
    assert run(checkpoint, "--to", tmp_path / "m", "--onnx") == 0
    assert "onnxruntime differs by" in capsys.readouterr().out
    graph = open_encoder(tmp_path / "m", EmbedSettings(backend="onnx"))
    texts = ["word1[SEP]word2 word3", "word9"]
    assert torch.allclose(graph.encode_texts(texts), trained.encode_texts(texts), atol=1e-4)
    assert run(checkpoint, "--to", tmp_path / "a", "--layout", "aspire-full", "--onnx") == 2
    assert "--onnx and --openvino go with --layout sentence-transformers" in capsys.readouterr().err


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


@pytest.mark.slow
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
