import json

import pytest
import torch
from safetensors.torch import load_file

from sciembed_train.export import custom_model
from sciembed_train.export.custom_model import with_custom_codes, write_custom_model
from tests.helpers.exports import encoder_of


@pytest.fixture
def written(tiny_bert, tmp_path):
    encoder = encoder_of(tiny_bert, max_length=64)
    code = tmp_path / "own_code.py"
    code.write_text("# defines OwnConfig and OwnModel\n")
    write_custom_model(
        encoder,
        tmp_path / "m",
        tiny_bert,
        code,
        names=("Own", "sciembed_own"),
        tensors={"mix": torch.ones(2)},
        entries={"bottleneck": 4},
        pooling="cls",
        similarity="cosine",
    )
    return tmp_path / "m"


def test_the_configuration_names_the_code_that_lies_beside_it(written):
    config = json.loads((written / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "own_code.OwnConfig",
        "AutoModel": "own_code.OwnModel",
    }
    assert (config["model_type"], config["bottleneck"]) == ("sciembed_own", 4)
    assert config["backbone"]["model_type"] == "bert"
    assert not {"architectures", "transformers_version"} & set(config["backbone"])
    assert (written / "own_code.py").is_file()
    assert (written / "tokenizer.json").is_file()
    assert load_file(written / "model.safetensors").keys() == {"mix"}


def test_without_its_code_nothing_is_loaded(written):
    from transformers import AutoModel

    with pytest.raises(ValueError, match="contains custom code"):
        AutoModel.from_pretrained(written, trust_remote_code=False, local_files_only=True)


def test_the_message_of_a_model_that_cannot_be_run_is_its_last_line(tmp_path, monkeypatch):
    script = tmp_path / "reader.py"
    script.write_text("import sys; print('first\\nlast line', file=sys.stderr); sys.exit(1)\n")
    monkeypatch.setattr(custom_model, "READER", script)
    with pytest.raises(RuntimeError, match="last line"):
        with_custom_codes([tmp_path], ["word1"])
