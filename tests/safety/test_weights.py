import json

import pytest
import torch

from sciembed_train.errors import UserError
from sciembed_train.safety.weights import load_pickled, weight_bytes, weight_format


def test_safetensors_are_preferred(tmp_path):
    (tmp_path / "pytorch_model.bin").touch()
    assert weight_format(tmp_path) == "bin"
    (tmp_path / "model.safetensors.index.json").touch()
    assert weight_format(tmp_path) == "safetensors"


def test_a_pickle_that_asks_for_code_is_refused_with_what_to_do(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "tensors")
    assert load_pickled(tmp_path / "tensors", "checkpoint", "").keys() == {"a"}
    torch.save({"a": print}, tmp_path / "code")
    message = r"code: is no checkpoint that can be read safely: it asks for \S*print\. Fetch"
    with pytest.raises(UserError, match=message):
        load_pickled(tmp_path / "code", "checkpoint", "Fetch another.")


def test_the_size_of_weights_is_that_of_all_parts(tmp_path):
    for name, size in (("a.safetensors", 5), ("b.safetensors", 7)):
        (tmp_path / name).write_bytes(b"x" * size)
    index = {"weight_map": {"x": "a.safetensors", "y": "b.safetensors", "z": "a.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weight_bytes(tmp_path) == 12
    (tmp_path / "model.safetensors").write_bytes(b"x" * 3)
    assert weight_bytes(tmp_path) == 3


@pytest.mark.parametrize("part", ["../a.safetensors", "gone.safetensors", "/etc/passwd"])
def test_an_index_that_leads_out_of_its_folder_is_refused(part, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"x")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": part}}))
    with pytest.raises(UserError, match="which is not in the folder"):
        weight_bytes(folder)
