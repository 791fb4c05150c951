"""Checkpoints: which one is taken, and what is refused without running code."""

import pickle

import numpy as np
import pytest
import torch

from sciembed_train import cli
from sciembed_train.encoder.io.training_titles import title_numbers
from sciembed_train.errors import UserError
from sciembed_train.export.checkpoint_file import TITLES, card_of, load_checkpoint, titles_of
from tests.helpers.exports import encoder_of, write_checkpoint


def run(*args):
    return cli.main(["export", *map(str, args)])


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


@pytest.mark.parametrize("place", [0.02, 0.3, 0.5, 0.8])
def test_a_flipped_bit_of_a_checkpoint_is_told_with_the_one_to_use(tmp_path, place):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {"w": torch.ones(50_000)}}, path)
    load_checkpoint(path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"last\.ckpt: is damaged: .*checksum.* Copy it again"):
        load_checkpoint(path)
    (tmp_path / "best.ckpt").touch()
    with pytest.raises(UserError, match=r"is damaged: .* Use .*best\.ckpt in its place, or copy"):
        load_checkpoint(path)


def test_the_titles_of_a_training_are_in_its_checkpoint(tiny_bert, tmp_path):
    titles = title_numbers(np.array([5, -7, 5, 0]))
    path = write_checkpoint(tmp_path / "a.ckpt", encoder_of(tiny_bert))
    content = load_checkpoint(path)
    assert titles_of(content) is None
    content["sciembed"][TITLES] = torch.from_numpy(titles.view(np.int64))
    torch.save(content, path)
    read = titles_of(load_checkpoint(path))
    assert read.dtype == np.uint64
    assert np.array_equal(read, titles)
    assert "training_titles" not in card_of(load_checkpoint(path))
