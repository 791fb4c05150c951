"""Where a model's folder is found."""

import pytest
import torch

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.settings import EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.safety.find_model import find_folder, model_place


@pytest.mark.parametrize(
    "name", ["no/such/folder", "./nowhere", "/nowhere", "nobody/no-such-model"]
)
def test_what_is_neither_folder_nor_hub_model_is_said(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="there is no such folder"):
        find_folder(name)


def test_a_file_in_place_of_a_folder_is_said(tmp_path):
    (tmp_path / "model.txt").write_text("")
    with pytest.raises(UserError, match="is a file"):
        find_folder(tmp_path / "model.txt")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("inside", ["", "0_Transformer/"])
def test_what_is_fetched_of_a_hub_model_is_all_that_is_read(weights, inside, tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    small = ["config.json", "tokenizer.json", "vocab.txt", "merges.txt", "spiece.model"]
    wanted = {f"{inside}{name}" for name in [*small, weights]}
    wanted |= {"modules.json", "sciembed.json", "1_Pooling/config.json"}
    others = {"tf_model.h5", "flax_model.msgpack", "onnx/model.onnx", "README.md"}

    def download(name, allow_patterns):
        for path in filter_repo_objects(wanted | others, allow_patterns=allow_patterns):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_folder("somebody/model") == tmp_path
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == wanted


UNLIKE = [[0.3, -1.2, 0.8]]


def settings_of(folder, **changes):
    values = {"pooling": "mix", "max_length": 64, "dropout": 0.0, "max_tokens_per_forward": 60}
    return EncoderSettings(str(folder), **{**values, **changes})


def mixing(folder, weights=UNLIKE, **changes):
    """An encoder whose layers have clearly different shares."""
    encoder = Encoder(settings_of(folder, **changes))
    with torch.no_grad():
        encoder.pooling.mix.copy_(torch.tensor(weights))
    return encoder


def test_a_runs_export_is_found_though_it_has_no_config_at_its_top(tiny_bert, tmp_path):
    mixing(tiny_bert).save(tmp_path / "run" / "export")
    assert model_place(tmp_path / "run") == tmp_path / "run" / "export"
    assert model_place(tmp_path / "run" / "export") == tmp_path / "run" / "export"
