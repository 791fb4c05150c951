import numpy as np
import pytest

from sciembed_train.corpus.alignment import (
    MARKER,
    AlignSettings,
    alignment_folder,
    alignment_name,
    alignment_names,
    choose_contexts,
    context_texts,
    find_alignment,
    paper_texts,
    read_alignment,
)
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.token_writing import split_abstracts
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress
from tests.helpers.cocitation_corpus import write_sentence_corpus
from tests.helpers.cocitation_files import write_contexts, write_letter_papers


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


@pytest.fixture
def mined(tmp_path):
    """The pair a, b has three contexts, a, c and b, c have one each."""
    papers = write_letter_papers(tmp_path)
    contexts = write_contexts(tmp_path, ["ab", "ab", "ab", "abc"])
    lines = contexts.read_text().splitlines()
    words = ["first", "second", "third", "fourth"]
    texts = [line.replace("Some follow", f"Some {word} follow") for line, word in
             zip(lines, words, strict=True)]  # fmt: skip
    contexts.write_text("\n".join(texts))
    return prepare(
        PrepareSettings(papers, contexts=contexts, to=tmp_path / "c", dev_share=0, test_share=0)
    )


def test_a_pair_has_at_most_so_many_contexts_drawn_by_the_seed(mined):
    chosen = choose_contexts(mined, "train", AlignSettings(contexts=2))
    assert chosen.range_starts.tolist() == [0, 2, 3, 4]
    assert chosen.pairs_with_any == 3
    again = choose_contexts(mined, "train", AlignSettings(contexts=2))
    assert chosen.contexts.tolist() == again.contexts.tolist()
    draws = {
        tuple(choose_contexts(mined, "train", AlignSettings(contexts=2, seed=s)).contexts[:2])
        for s in range(20)
    }
    assert len(draws) > 1
    everything = choose_contexts(mined, "train", AlignSettings(contexts=9))
    assert everything.range_starts.tolist() == [0, 4, 5, 6]


def test_the_texts_of_contexts_are_read_by_number(mined):
    texts = list(context_texts(mined, np.arange(4)))
    assert len(texts) == 4
    assert list(context_texts(mined, np.array([1, 3]))) == [texts[1], texts[3]]
    assert list(context_texts(mined, np.empty(0, np.int64))) == []
    with pytest.raises(UserError, match="holds 1 of 2 contexts of the pairs"):
        list(context_texts(mined, np.array([1, 9])))
    (mined.folder / "contexts.parquet").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        list(context_texts(mined, np.array([1])))


def test_a_paper_without_an_abstract_has_its_title(mined):
    split_abstracts(mined, Progress(quiet=True))
    assert list(paper_texts(mined, np.array([0, 2]))) == [["title a"], ["title c"]]
