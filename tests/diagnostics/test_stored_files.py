import pytest
import torch

from sciembed_train.cli import main
from sciembed_train.diagnostics.stored_files import verify
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress


@pytest.fixture
def run(tmp_path):
    for name in ("best.ckpt", "last.ckpt"):
        torch.save({"state_dict": {"w": torch.ones(1000)}, "name": name}, tmp_path / name)
    return tmp_path


def flip(path, place=0.5):
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)


def test_a_run_whose_checkpoints_are_whole(run, capsys):
    assert main(["doctor", "--verify", str(run)]) == 0
    assert "2 files are as they were written" in capsys.readouterr().out
    assert verify(run / "last.ckpt", Progress()).endswith("1 files are as they were written.")


def test_a_damaged_checkpoint_is_named_and_the_other_to_use(run, capsys):
    flip(run / "last.ckpt")
    assert main(["doctor", "--verify", str(run)]) == 2
    said = capsys.readouterr().err
    assert "1 of 2 files are damaged." in said
    assert f"{run / 'last.ckpt'}: " in said
    assert "does not fit its checksum" in said
    assert f"Use {run / 'best.ckpt'}, or copy" in said
    flip(run / "best.ckpt")
    with pytest.raises(UserError, match="Copy the files again, or train again"):
        verify(run, Progress())


def test_a_place_without_anything_to_compare_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="is no corpus, run or checkpoint"):
            verify(place, Progress())
