import numpy as np
import pytest

from sciembed_train.corpus.alignment.alignments import (
    MARKER,
    AlignSettings,
    alignment_folder,
    alignment_name,
    alignment_names,
    find_alignment,
    read_alignment,
)
from sciembed_train.errors import UserError
from tests.helpers.cocitation_corpus import write_sentence_corpus


@pytest.fixture
def corpus(tmp_path, tiny_bert):
    return write_sentence_corpus(tmp_path / "corpus", tiny_bert, alignment="mine")


def test_the_only_alignment_or_the_named_one_is_taken(corpus):
    assert alignment_names(corpus) == ["mine"]
    assert find_alignment(corpus, "") == find_alignment(corpus, "mine") == "mine"
    rows = read_alignment(corpus, "mine", "train")
    assert (rows.dtype, rows.shape) == (np.int16, (len(corpus.cocitations("train")), 4))


def test_several_no_and_unknown_alignments_are_refused_with_the_command(corpus, tiny_bert):
    folder = alignment_folder(corpus, "mine")
    with pytest.raises(UserError, match=r"no alignment of .* \(it holds mine\), and no folder"):
        find_alignment(corpus, "other")
    with pytest.raises(UserError, match=r"no alignment of sentences by .* \(it holds mine\)"):
        find_alignment(corpus, str(tiny_bert))
    folder.rename(folder.with_name(alignment_name(tiny_bert, AlignSettings())))
    assert find_alignment(corpus, str(tiny_bert)) == alignment_names(corpus)[0]
    (folder / "x").mkdir(parents=True)
    (folder / MARKER).write_text("{}")
    with pytest.raises(UserError, match=r"several alignments .*data\.sampling\.aligned_by NAME"):
        find_alignment(corpus, "")


def test_a_corpus_without_an_alignment_is_refused_with_the_command(corpus):
    (alignment_folder(corpus, "mine") / MARKER).unlink()
    with pytest.raises(UserError, match=r"Make it with `train align .* --model FOLDER`"):
        find_alignment(corpus, "")


def test_an_alignment_of_other_pairs_or_another_version_is_refused(corpus):
    folder = alignment_folder(corpus, "mine")
    np.save(folder / "train.npy", np.zeros((3, 4), np.int16))
    with pytest.raises(UserError, match=r"its shape is \(3, 4\), and .* is expected"):
        read_alignment(corpus, "mine", "train")
    (folder / MARKER).write_text('{"version": 0}')
    with pytest.raises(UserError, match="alignment of version 0; this program reads version 1"):
        read_alignment(corpus, "mine", "train")
    (folder / MARKER).write_text("{")
    with pytest.raises(UserError, match="is no alignment"):
        read_alignment(corpus, "mine", "train")


def test_the_name_follows_the_files_of_the_model_and_the_settings(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"a")
    name = alignment_name(tmp_path, AlignSettings())
    assert alignment_name(tmp_path, AlignSettings(seed=1)) != name
    (tmp_path / "README.md").write_text("no part of the model")
    assert alignment_name(tmp_path, AlignSettings()) == name
    (tmp_path / "model.safetensors").write_bytes(b"b")
    assert alignment_name(tmp_path, AlignSettings()) != name
    with pytest.raises(UserError, match="is no folder of a model"):
        alignment_name(tmp_path / "none", AlignSettings())


@pytest.mark.parametrize(
    ("values", "message"),
    [({"contexts": 0}, "--contexts must be 1"), ({"seed": -1}, "--seed must be 0")],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        AlignSettings(**values)
