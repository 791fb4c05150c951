import pytest
import torch

from sciembed_train.training.trainer import RunCheckpointIO


def test_a_checkpoint_comes_back_and_nothing_lies_beside_it(tmp_path):
    path = tmp_path / "run" / "last.ckpt"
    RunCheckpointIO().save_checkpoint({"step": 3, "weight": torch.ones(2)}, path)
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    content = torch.load(path, weights_only=True)
    assert content["step"] == 3
    assert torch.equal(content["weight"], torch.ones(2))


def test_a_save_that_fails_leaves_the_checkpoint_before(tmp_path):
    path = tmp_path / "last.ckpt"
    RunCheckpointIO().save_checkpoint({"step": 3}, path)
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        RunCheckpointIO().save_checkpoint({"step": 4, "bad": (x for x in ())}, path)
    assert torch.load(path, weights_only=True) == {"step": 3}


def test_options_of_other_file_systems_are_refused(tmp_path):
    with pytest.raises(TypeError, match="storage_options"):
        RunCheckpointIO().save_checkpoint({}, tmp_path / "a.ckpt", storage_options={"key": "x"})
