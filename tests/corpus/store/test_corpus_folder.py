import os
import subprocess
import sys

import numpy as np
import pytest

from sciembed_train.corpus.store.corpus_files import save_info
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_kinds import DOCUMENT_TOKENS
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.small_corpus import small_papers, write_small_corpus, write_small_documents


def test_a_corpus_gives_back_what_was_written(tiny_bert, tmp_path):
    corpus = write_small_corpus(tmp_path / "c", tiny_bert)
    assert corpus.n_papers == 60
    assert corpus.triplets("train").shape == (100, 3)
    assert corpus.triplets("train").dtype == np.int32
    assert corpus.hard("train").sum() == 40
    assert set(corpus.queries("dev")) <= set(range(50, 55))
    citations = corpus.citations()
    assert np.array_equal(citations, np.unique(citations, axis=0))
    assert list(corpus.papers()) == small_papers(60)
    assert corpus.paper_ids() == [f"p{i}" for i in range(60)]
    key = TextTokenizer.load(tiny_bert).key(InputFormat())
    assert corpus.has_tokens(key)
    assert len(corpus.tokens(key)) == 60


def test_reading_for_training_imports_neither_pyarrow_nor_duckdb(tiny_bert, tmp_path):
    write_small_corpus(tmp_path / "c", tiny_bert)
    code = """
import sys
from pathlib import Path
from sciembed_train.corpus.store.corpus_folder import Corpus
corpus = Corpus.open(sys.argv[1])
corpus.triplets("train"), corpus.queries("dev"), corpus.citations()
corpus.tokens(next(iter(corpus.info["token_stores"]))).rows([1, 2], 64)
assert not {"pyarrow", "duckdb", "torch", "transformers"} & set(sys.modules), sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "c")], check=True)


def test_what_is_no_corpus_is_refused_with_a_way_out(tiny_bert, tmp_path):
    with pytest.raises(UserError, match=r"does not exist.*--fulltexts F"):
        Corpus.open(tmp_path / "none")
    with pytest.raises(UserError, match=r"has no corpus\.json"):
        Corpus.open(tmp_path)
    corpus = write_small_corpus(tmp_path / "c", tiny_bert)
    with pytest.raises(UserError, match="only the tokens"):
        corpus.tokens("0" * 16)
    with pytest.raises(UserError, match="is a file, and a corpus is a folder"):
        Corpus.open(corpus.folder / "corpus.json")
    (corpus.folder / "triplets" / "train.npy").unlink()
    with pytest.raises(UserError, match="holds no triplets"):
        corpus.triplets("train")
    save_info(corpus.folder, {**corpus.info, "version": 99})
    with pytest.raises(UserError, match="version 99; this program reads version 3"):
        Corpus.open(corpus.folder)
    (corpus.folder / "corpus.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Corpus.open(corpus.folder)


@pytest.mark.parametrize("size", [0, 60, 200])
def test_arrays_that_were_cut_short_are_refused(tiny_bert, tmp_path, size):
    corpus = write_small_corpus(tmp_path / "c", tiny_bert)
    key = next(iter(corpus.info["token_stores"]))
    os.truncate(corpus.folder / "triplets" / "train.npy", size)
    with pytest.raises(UserError, match=r"train\.npy is damaged"):
        corpus.triplets("train")
    os.truncate(corpus.folder / "tokens" / key / "00000.bin", size)
    with pytest.raises(UserError, match=rf"00000\.bin is damaged: it has {size} bytes"):
        corpus.tokens(key)
    os.truncate(corpus.folder / "tokens" / key / "offsets.npy", size)
    with pytest.raises(UserError, match=r"offsets\.npy is damaged"):
        corpus.tokens(key)


def test_a_corpus_of_documents_gives_back_what_was_written(tiny_bert, tmp_path):
    corpus = write_small_documents(tmp_path / "c", tiny_bert, [5, 0, 40, 7, 7, 7, 9, 9, 9, 30])
    assert corpus.n_documents == 10
    assert corpus.documents("train").tolist() == [0, 1, 2, 3, 4, 5]
    assert corpus.documents("dev").tolist() == [8, 9]
    assert corpus.documents("dev").dtype == np.int32
    assert corpus.document_ids() == [f"d{i}" for i in range(10)]
    tokenizer = TextTokenizer.load(tiny_bert)
    assert corpus.has_tokens(tokenizer.document_key, DOCUMENT_TOKENS)
    store = corpus.tokens(tokenizer.document_key, DOCUMENT_TOKENS)
    assert store.lengths.tolist() == [5, 0, 40, 7, 7, 7, 9, 9, 9, 30]
    assert [len(text.split()) for text in corpus.document_texts()][:3] == [5, 0, 40]
    with pytest.raises(UserError, match="holds no papers"):
        corpus.paper_ids()


def test_a_corpus_without_documents_or_their_tokens_is_refused(tiny_bert, tiny_roberta, tmp_path):
    old = write_small_corpus(tmp_path / "old", tiny_bert)
    bert, roberta = map(TextTokenizer.load, (tiny_bert, tiny_roberta))
    assert old.n_documents == 0
    for ask in (
        lambda: old.documents("train"),
        lambda: old.document_ids(),
        lambda: next(old.document_texts()),
        lambda: old.tokens(bert.document_key, DOCUMENT_TOKENS),
    ):
        with pytest.raises(UserError, match=r"holds no documents .* prepare --fulltexts"):
            ask()
    new = write_small_documents(tmp_path / "new", tiny_bert, [5] * 6)
    with pytest.raises(UserError, match=r"no tokens of its documents .* only the tokens are added"):
        new.tokens(roberta.document_key, DOCUMENT_TOKENS)
