import pytest

from sciembed_train.corpus import token_task
from sciembed_train.corpus.shared_work import alone
from sciembed_train.corpus.store.corpus_files import read_papers
from sciembed_train.corpus.store.kept_tokens import KeptTokens
from sciembed_train.corpus.store.token_kinds import PAPER_TOKENS
from sciembed_train.corpus.store.token_store_writing import join_stores
from sciembed_train.corpus.token_task import WRITERS, TokenTask
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.small_corpus import write_small_corpus

SHARD = 16


@pytest.fixture
def corpus(tmp_path, tiny_bert, monkeypatch):
    monkeypatch.setattr(token_task, "SHARD_PAPERS", SHARD)
    for _, write in WRITERS.values():
        monkeypatch.setitem(write.__kwdefaults__, "shard_papers", SHARD)
    return write_small_corpus(tmp_path / "corpus", tiny_bert, n_papers=50)


def task_of(corpus, store, tiny_bert, earlier=None):
    tokenizer = TextTokenizer.load(tiny_bert)
    form = InputFormat()
    return TokenTask(corpus.folder, store, corpus.n_papers, tokenizer, "bert", form, earlier)


@pytest.mark.parametrize("store", sorted(WRITERS))
def test_the_units_together_are_the_store_that_is_written_at_once(
    corpus, store, tiny_bert, tmp_path
):
    task = task_of(corpus, store, tiny_bert)
    assert task.units == 4
    saved = tmp_path / "saved"
    saved.mkdir()
    facts = task.save(saved)
    words = (task.tokenizer, task.tokenizer_name, task.input_format, None)
    with TokenTask.open(saved, facts, *words) as opened:  # as another process does
        assert (opened.name, opened.title, opened.units) == (task.name, task.title, 4)
        join_stores(alone(opened), tmp_path / "joined", "bert")
    _, write = WRITERS[store]
    papers = read_papers(corpus.folder / "papers.parquet")
    write(tmp_path / "whole", task.tokenizer, task.input_format, papers, name="bert")
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {path.name for path in (tmp_path / "joined").iterdir()}
    for name in names:
        whole, joined = (tmp_path / folder / name for folder in ("whole", "joined"))
        assert whole.read_bytes() == joined.read_bytes(), name


def test_a_unit_takes_the_tokens_that_its_papers_had(corpus, tiny_bert, tmp_path, monkeypatch):
    kept = []
    of = KeptTokens.of
    monkeypatch.setattr(KeptTokens, "of", lambda *a, **k: kept.append(of(*a, **k)) or kept[-1])
    task = task_of(corpus, PAPER_TOKENS.folder, tiny_bert, earlier=corpus)
    task.do(0, tmp_path / "unit")
    assert kept[0] is not None
    assert kept[0].count > 0
