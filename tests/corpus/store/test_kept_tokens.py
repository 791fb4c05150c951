import json

import numpy as np
import pytest

from sciembed_train.corpus import paper_writing
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store import kept_tokens
from sciembed_train.corpus.store.corpus_files import read_papers
from sciembed_train.corpus.store.kept_tokens import KeptTokens
from sciembed_train.corpus.store.token_kinds import PAPER_TOKENS, PART_TOKENS
from sciembed_train.progress import Progress
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer

PAPERS = [
    {
        "paper_id": f"p{i:02d}",
        "title": f"word{i} word3",
        "abstract": f"word{i % 7} word2. Word4 word5.",
    }
    for i in range(12)
]
PAPERS[3]["abstract"] = None
PAPERS[4]["title"] = ""
PAPERS[5]["abstract"] = ["word1 word2.", "word3."]


def make(folder, to, tiny_bert, papers):
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in papers))
    settings = PrepareSettings(folder / "p.jsonl", to=to, tokenizer=tiny_bert, part_tokens=True)
    return prepare(settings, Progress(quiet=True))


def tokens(corpus, tiny_bert, kind):
    store = corpus.tokens(TextTokenizer.load(tiny_bert).key(InputFormat()), kind)
    return [store.rows(np.array([text]), 99)[0].tolist() for text in range(len(store))], store


@pytest.fixture
def changed(tmp_path):
    """A paper less, one more before all others, one with another text."""
    papers = [dict(paper) for paper in PAPERS if paper["paper_id"] != "p07"]
    papers[2]["abstract"] = "word9 word9."
    return [*papers, {"paper_id": "a", "title": "word6", "abstract": "word7."}]


@pytest.mark.parametrize("kind", [PAPER_TOKENS, PART_TOKENS], ids=["papers", "parts"])
def test_a_changed_collection_has_the_tokens_of_one_made_anew(tmp_path, tiny_bert, changed, kind):
    make(tmp_path, tmp_path / "c", tiny_bert, PAPERS)
    again, store = tokens(make(tmp_path, tmp_path / "c", tiny_bert, changed), tiny_bert, kind)
    anew, other = tokens(make(tmp_path, tmp_path / "d", tiny_bert, changed), tiny_bert, kind)
    assert again == anew
    if kind is PART_TOKENS:
        np.testing.assert_array_equal(store.middles, other.middles)
        np.testing.assert_array_equal(store.titles, other.titles)


def test_only_new_and_changed_texts_are_tokenised(tmp_path, tiny_bert, changed, monkeypatch):
    make(tmp_path, tmp_path / "c", tiny_bert, PAPERS)
    encoded = []
    encode = TextTokenizer.encode

    def counted(self, texts):
        texts = list(texts)
        encoded.extend(texts)
        return encode(self, texts)

    monkeypatch.setattr(TextTokenizer, "encode", counted)
    make(tmp_path, tmp_path / "c", tiny_bert, changed)
    # Of each paper the title, which no other has.
    made = [i for i in range(12) if any(text.startswith(f"word{i} word3") for text in encoded)]
    assert made == [2]
    assert any(text.startswith("word6") for text in encoded)


def test_a_damaged_corpus_is_made_anew(tmp_path, tiny_bert, changed):
    corpus = make(tmp_path, tmp_path / "c", tiny_bert, PAPERS)
    for path in corpus.folder.rglob("offsets.npy"):
        path.write_bytes(b"x")
    again, _ = tokens(make(tmp_path, tmp_path / "c", tiny_bert, changed), tiny_bert, PAPER_TOKENS)
    anew, _ = tokens(make(tmp_path, tmp_path / "d", tiny_bert, changed), tiny_bert, PAPER_TOKENS)
    assert again == anew


def test_another_tokenizer_or_format_keeps_nothing(tmp_path, tiny_bert, capsys):
    make(tmp_path, tmp_path / "c", tiny_bert, PAPERS)
    settings = PrepareSettings(
        tmp_path / "p.jsonl",
        to=tmp_path / "c",
        tokenizer=tiny_bert,
        input_format=InputFormat(separator="space"),
        seed=1,
    )
    prepare(settings, Progress())
    assert "tokenised before" not in capsys.readouterr().err


@pytest.mark.parametrize("since", ["", "a", "p03", "p055", "p11", "z"])
def test_the_papers_before_an_id_need_not_be_read(tmp_path, tiny_bert, monkeypatch, since):
    monkeypatch.setattr(paper_writing, "ROWS", 3)  # of a row group
    corpus = make(tmp_path, tmp_path / "c", tiny_bert, PAPERS)
    read = []
    monkeypatch.setattr(
        kept_tokens,
        "read_papers",
        lambda *a, **k: (read.append(row["paper_id"]) or row for row in read_papers(*a, **k)),
    )
    key = TextTokenizer.load(tiny_bert).key(InputFormat())
    kept = KeptTokens.of(corpus, key, PAPER_TOKENS, since=since)
    assert kept is not None
    asked = [paper for paper in read_papers(corpus.folder / "papers.parquet")
             if paper["paper_id"] >= since]  # fmt: skip
    assert [kept.number(paper) for paper in asked] == [paper["paper"] for paper in asked]
    group = max([row for row in range(0, 12, 3) if PAPERS[row]["paper_id"] <= since], default=0)
    assert read[0] == PAPERS[group]["paper_id"]
