"""One adapter by itself, as users of the library `adapters` have it."""

import pytest
import torch

from sciembed_train import cli
from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.encoder_checkpoint import describe
from sciembed_train.errors import UserError
from sciembed_train.export.export_layout import write_export
from sciembed_train.export.layouts import adapterhub_layout
from sciembed_train.export.layouts.adapterhub_layout import AdapterHubLayout
from sciembed_train.export.verification import ExportError
from tests.helpers.adapter_models import stir

pytest.importorskip("adapters")
TEXTS = ["word1 word2 word3", "word4 " * 700, "word5"]


def export_adapter(encoder, folder, adapter):
    return write_export(AdapterHubLayout(adapter), encoder, folder, {})


@pytest.fixture(scope="module")
def encoder(tiny_bert):
    wanted = AdapterSettings(("regression", "proximity"), reduction=4)
    made = Encoder(EncoderSettings(str(tiny_bert), max_length=40, dropout=0.2, adapters=wanted))
    stir(made.backbone, made.format_reader)
    return made.eval()


def test_an_adapter_of_a_checkpoint_is_exported_and_begins_another_training(
    encoder, tmp_path, capsys
):
    state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    record = {"version": 1, "method": "multitask", **describe(encoder)}
    torch.save({"sciembed": record, "state_dict": state, "global_step": 3}, tmp_path / "a.ckpt")
    export = ["export", str(tmp_path / "a.ckpt"), "--to", str(tmp_path / "one")]
    export += ["--layout", "adapterhub", "--adapter"]
    assert cli.main([*export, "[RGN]"]) == 0
    assert "AutoModel and adapters differs by" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "one").iterdir()}
    assert names == {
        *("README.md", "adapter_config.json", "pytorch_adapter.bin", "adapter.safetensors")
    }
    assert str(tmp_path) not in (tmp_path / "one" / "README.md").read_text()
    assert cli.main([*export, "regression"]) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert cli.main([*export, "regression", "--overwrite"]) == 0

    start = {"regression": str(tmp_path / "one")}
    wanted = AdapterSettings(("regression",), reduction=4, start=start)
    again = Encoder(EncoderSettings(encoder.settings.backbone, max_length=40, adapters=wanted))
    expected = encoder.encode_texts(TEXTS, format="regression")
    assert (again.encode_texts(TEXTS) - expected).abs().max() < 1e-6


def test_an_adapter_that_is_not_there_is_refused(encoder, tiny_bert, tmp_path):
    with pytest.raises(UserError, match=r"'\[CLF\]'; the checkpoint has regression \(\[RGN\]\)"):
        export_adapter(encoder, tmp_path / "one", "[CLF]")
    with pytest.raises(UserError, match="--adapter is missing"):
        export_adapter(encoder, tmp_path / "one", None)
    with pytest.raises(UserError, match="has no adapters"):
        export_adapter(Encoder(EncoderSettings(str(tiny_bert))), tmp_path / "one", None)
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_of_fused_ones_is_not_written_by_itself(tiny_bert, tmp_path):
    wanted = AdapterSettings(("proximity", "regression"), reduction=4, fusion="static")
    fused = Encoder(EncoderSettings(str(tiny_bert), adapters=wanted))
    with pytest.raises(UserError, match="has fusions of adapters"):
        export_adapter(fused, tmp_path / "one", "proximity")


def test_an_adapter_that_gives_other_vectors_leaves_nothing_behind(encoder, tmp_path, monkeypatch):
    vectors = adapterhub_layout.model_vectors
    monkeypatch.setattr(adapterhub_layout, "model_vectors", lambda *args: vectors(*args) + 1e-3)
    with pytest.raises(ExportError, match="computes other embeddings"):
        export_adapter(encoder, tmp_path / "one", "proximity")
    assert list(tmp_path.iterdir()) == []
