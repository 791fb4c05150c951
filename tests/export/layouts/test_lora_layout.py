"""Low-rank updates by themselves, as users of the library `peft` have them."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

import sciembed_train as st
from sciembed_train import cli
from sciembed_train.encoder.adapters.lora_settings import LoraSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.export.export_layout import write_export
from sciembed_train.export.layouts import lora_layout
from sciembed_train.export.layouts.lora_layout import LoraLayout
from sciembed_train.export.verification import ExportError
from tests.helpers.exports import write_checkpoint

peft = pytest.importorskip("peft")
TEXTS = ["word1 word2 word3", "word4 " * 40, "word5"]


def encoder_of(folder, targets=(), **settings):
    """An encoder whose updates are not 0."""
    lora = LoraSettings(4, 12.0, 0.1, targets)
    encoder = Encoder(EncoderSettings(str(folder), max_length=64, lora=lora, **settings))
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if ".lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.05)
    return encoder.eval()


@pytest.mark.parametrize(
    ("name", "settings", "updates"),
    [
        ("tiny_qwen3", {"pooling": "last", "normalize": True}, 2 * 7),
        ("tiny_bert", {"pooling": "mean"}, 2 * 6),
        ("tiny_bert", {"pooling": "cls", "targets": ("query", "attention.output.dense")}, 2 * 2),
    ],
)
def test_both_libraries_give_the_vectors_of_the_merged_encoder(
    name, settings, updates, request, tmp_path
):
    folder = request.getfixturevalue(name)
    encoder = encoder_of(folder, **settings)
    differences = write_export(LoraLayout(), encoder, tmp_path / "m", {"similarity": "cosine"})
    assert set(differences) == {"peft", "SentenceTransformer"}
    assert all(d is not None and d < 1e-5 for d in differences.values())
    assert encoder.settings.lora is not None  # it is not changed
    weights = load_file(tmp_path / "m" / "adapter_model.safetensors")
    assert len(weights) == 2 * updates
    assert sum(value.numel() for value in weights.values()) == sum(
        p.numel() for p in encoder.parameters() if p.requires_grad
    )
    start = Encoder(EncoderSettings(str(folder), encoder.settings.pooling, 64)).eval()
    assert (start.encode_texts(TEXTS) - encoder.encode_texts(TEXTS)).abs().max() > 1e-3


def test_of_a_run_with_a_verdict_the_updates_are_those_that_were_trained(tiny_bert, tmp_path):
    encoder = encoder_of(tiny_bert, pooling="mean")
    write_checkpoint(tmp_path / "run" / "best.ckpt", encoder)
    write_checkpoint(tmp_path / "run" / "final.ckpt", encoder.merged())
    made = st.export_encoder(tmp_path / "run", tmp_path / "m", layout="lora")
    assert made.checkpoint.name == "best.ckpt"
    assert st.export_encoder(tmp_path / "run", tmp_path / "whole").checkpoint.name == "final.ckpt"


def test_a_checkpoint_is_exported_by_the_command_without_its_updates_merged(
    tiny_qwen3, tmp_path, capsys
):
    encoder = encoder_of(tiny_qwen3, pooling="last", normalize=True)
    checkpoint = write_checkpoint(tmp_path / "a.ckpt", encoder)
    export = ["export", str(checkpoint), "--to", str(tmp_path / "m"), "--layout", "lora"]
    assert cli.main(export) == 0
    assert "peft differs by" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert "model.safetensors" not in names
    assert {"adapter_config.json", "adapter_model.safetensors", "modules.json"} <= names
    assert str(tiny_qwen3.parent) not in (tmp_path / "m" / "README.md").read_text()
    papers = tmp_path / "papers.jsonl"
    papers.write_text('{"paper_id": "a", "title": "word1", "abstract": "word2"}\n')
    embed = ["embed", "--model", str(tmp_path / "m"), "--input", str(papers)]
    assert cli.main([*embed, "--to", str(tmp_path / "a.npy")]) == 2
    assert "so it is an adapter" in capsys.readouterr().err
    assert cli.main(export) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    # Beside a copy of the backbone, which adapter_config.json names then.
    moved = shutil.copytree(tiny_qwen3, tmp_path / "moved")
    assert cli.main([*export, "--base", str(moved), "--overwrite"]) == 0
    config = json.loads((tmp_path / "m" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["r"]) == (str(moved), 4)


def test_updates_to_another_backbone_leave_nothing_behind(tiny_bert, tmp_path):
    from tests.helpers.tiny_models import write_tiny_bert

    other = write_tiny_bert(tmp_path / "other", seed=1)
    encoder = encoder_of(tiny_bert, pooling="mean")
    with pytest.raises(ExportError, match="peft computes other embeddings"):
        write_export(LoraLayout(str(other)), encoder, tmp_path / "m", {})
    assert not (tmp_path / "m").exists()


def test_a_library_that_gives_other_vectors_is_noticed(tiny_bert, tmp_path, monkeypatch):
    vectors = lora_layout.sentence_transformers_vectors
    monkeypatch.setattr(
        lora_layout, "sentence_transformers_vectors", lambda *a, **k: vectors(*a, **k) + 1e-3
    )
    encoder = encoder_of(tiny_bert, pooling="mean")
    with pytest.raises(ExportError, match="SentenceTransformer computes other embeddings"):
        write_export(LoraLayout(), encoder, tmp_path / "m", {})


def test_what_has_no_such_layout_is_refused(tiny_bert, tmp_path):
    plain = Encoder(EncoderSettings(str(tiny_bert)))
    with pytest.raises(UserError, match=r"trained without encoder\.lora"):
        write_export(LoraLayout(), plain, tmp_path / "m", {})
    mixed = encoder_of(tiny_bert, pooling="mix")
    with pytest.raises(UserError, match="pooling is mix, which sentence-transformers has no"):
        write_export(LoraLayout(), mixed, tmp_path / "m", {})
    Encoder(EncoderSettings(str(tiny_bert), "mix", 64)).eval().save(tmp_path / "mixed")
    inside = encoder_of(tmp_path / "mixed", pooling="cls")
    with pytest.raises(UserError, match="where no other library looks"):
        write_export(LoraLayout(), inside, tmp_path / "m", {})
    assert not (tmp_path / "m").exists()
