import numpy as np
import pytest

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_kinds import TASK_TOKENS
from sciembed_train.corpus.token_writing import add_tokens, split_abstracts
from sciembed_train.progress import Progress
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.paper_files import paper_settings, write_paper_files
from tests.helpers.task_files import EIGHT, write_tasks


@pytest.fixture
def task_folder(tmp_path):
    return write_tasks(tmp_path / "given", dict.fromkeys(EIGHT, 30))


def test_a_second_tokenizer_is_added_without_redoing_the_rest(tmp_path, tiny_bert, tiny_roberta):
    write_paper_files(tmp_path)
    first = prepare(paper_settings(tmp_path))
    assert first.info["token_stores"] == {}
    before = {p: p.stat().st_mtime_ns for p in first.folder.rglob("*.npy")}
    prepare(paper_settings(tmp_path, tokenizer=tiny_bert))
    last = prepare(
        paper_settings(
            tmp_path, tokenizer=tiny_roberta, input_format=InputFormat(separator="space")
        )
    )
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(last.info["token_stores"]) == 2
    for key in last.info["token_stores"]:
        assert len(last.tokens(key)) == 120
    # Other settings make another corpus in its place.
    prepare(paper_settings(tmp_path, seed=1))
    assert {p: p.stat().st_mtime_ns for p in before} != before
    assert Corpus.open(first.folder).info["token_stores"] == {}


def test_texts_are_tokenised_as_a_paper_is_read(task_folder, tiny_bert, tmp_path):
    tokenizer = TextTokenizer.load(tiny_bert)
    for input_format in (InputFormat(), InputFormat(separator="space")):
        settings = PrepareSettings(
            tasks=task_folder,
            to=tmp_path / "corpus",
            tokenizer=tiny_bert,
            input_format=input_format,
        )
        corpus = prepare(settings)
        tasks = corpus.tasks()
        store = corpus.tokens(tokenizer.key(input_format), TASK_TOKENS)
        sep = f" {tokenizer.sep_token} " if input_format.separator == "sep" else " "
        for number, fields in enumerate(tasks.texts()):
            (expected,) = tokenizer.rows([sep.join(fields)], 512)
            assert store.rows(np.array([number]), 512)[0].tolist() == expected
            if len(fields) == 2:
                (paper,) = tokenizer.rows([input_format.compose(*fields, tokenizer.sep_token)], 512)
                assert paper == expected


def test_without_a_tokenizer_nothing_is_added(tmp_path):
    write_paper_files(tmp_path)
    corpus = prepare(paper_settings(tmp_path))
    add_tokens(corpus, paper_settings(tmp_path), None, Progress(quiet=True))
    assert not (corpus.folder / "tokens").exists()


def test_sentences_are_split_once(tmp_path, capsys):
    write_paper_files(tmp_path)
    corpus = prepare(paper_settings(tmp_path))
    split_abstracts(corpus, Progress())
    assert "sentences: 120 papers" in capsys.readouterr().err
    split_abstracts(corpus, Progress())
    assert capsys.readouterr().err == ""
    assert len(list(corpus.sentences())) == 120
