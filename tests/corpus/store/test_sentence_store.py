import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.sentence_store import (
    SentenceIndexedTokens,
    abstract_sentences,
    write_sentence_store,
)
from sciembed_train.corpus.store.token_kinds import SENTENCE_INDEXED_TOKENS
from sciembed_train.corpus.store.token_store_writing import write_token_store
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer

FORMS = (InputFormat(), InputFormat("space", "sep"), InputFormat(control_code="word7"))
NOTHING = "\x01\x02"  # of which a BERT tokenizer leaves no token


def sentenced_papers(n, seed=0):
    """``n`` papers of a title and 0 to 7 sentences; some have no title, some neither."""
    rng = np.random.default_rng(seed)

    def words(k):
        return " ".join(f"word{w}" for w in rng.integers(0, 200, k))

    return [
        (
            words(rng.integers(1, 6)) if i % 5 else None,
            [words(rng.integers(1, 9)) + "." for _ in range(rng.integers(0, 8))],
        )
        for i in range(n)
    ]


def plain_sentences(tokenizer, input_format, title, sentences, max_length):
    """Of each sentence that is left its ids, found word by word and cut by hand."""
    body = tokenizer.encode([input_format.compose(title, sentences, tokenizer.sep_token)])[0]
    room = max_length - len(tokenizer.prefix) - len(tokenizer.suffix)
    at = len(body)
    found = []
    gap = 1 if input_format.sentences == "sep" else 0
    for sentence in reversed(sentences):
        ids = tokenizer.encode([sentence])[0]
        start = at - len(ids)
        assert body[start:at] == ids
        found.append(body[start : min(at, room)])
        at = start - gap
    left = [ids for ids in reversed(found) if ids]
    return left or [body[:room]]


@pytest.fixture(scope="module")
def tokenizer(tiny_bert):
    return TextTokenizer.load(tiny_bert)


@pytest.mark.parametrize("input_format", FORMS)
@pytest.mark.parametrize("max_length", [512, 24, 5])
def test_the_tokens_of_a_sentence_are_the_sentence(tokenizer, tmp_path, input_format, max_length):
    papers = sentenced_papers(50)
    store = write_sentence_store(
        tmp_path / "s", tokenizer, input_format, papers, shard_papers=7, batch_papers=6
    )
    readable = [i for i, (title, sentences) in enumerate(papers) if title or sentences]
    asked = np.array([*readable[::-1], readable[3], readable[3]])
    ids, lengths = store.rows(asked, max_length)
    starts, sizes, counts = store.sentences(asked, max_length)
    rows = np.split(ids, np.cumsum(lengths)[:-1])
    of = np.repeat(np.arange(len(asked)), counts)
    found = [[] for _ in asked]
    for row, start, size in zip(of, starts, sizes, strict=True):
        found[row].append(rows[row][start : start + size].tolist())
    want = [plain_sentences(tokenizer, input_format, *papers[i], max_length) for i in asked]
    assert found == want
    if max_length == 512 and not input_format.control_code:
        with_abstract = next(k for k, i in enumerate(asked) if len(papers[i][1]) > 1)
        decoded = [tokenizer.hf.decode(part) for part in found[with_abstract]]
        # transformers 4 writes a space before a full stop.
        assert [s.replace(" .", ".") for s in decoded] == papers[asked[with_abstract]][1]


@pytest.mark.parametrize("input_format", FORMS)
def test_ids_are_those_of_the_composed_text(tokenizer, tmp_path, input_format):
    papers = sentenced_papers(40, seed=2)
    store = write_sentence_store(tmp_path / "s", tokenizer, input_format, papers)
    rows = [
        {"paper": i, "title": title, "abstract": list(sentences)}
        for i, (title, sentences) in enumerate(papers)
    ]
    plain = write_token_store(tmp_path / "t", tokenizer, input_format, rows)
    for one, other in zip(
        store.rows(np.arange(40), 64), plain.rows(np.arange(40), 64), strict=True
    ):
        assert one.tolist() == other.tolist()
    assert store.sentence_counts.tolist() == [len(sentences) for _, sentences in papers]


def test_a_sentence_without_a_token_is_left_out_and_those_after_it_move_up(tokenizer, tmp_path):
    papers = [
        ("word1", ["word2.", NOTHING, "word3 word4.", NOTHING, "word5."]),
        ("word1", ["word2."]),
        (None, [NOTHING, "word6."]),
        (NOTHING, []),
    ]
    store = write_sentence_store(tmp_path / "s", tokenizer, InputFormat(), papers)
    assert store.sentence_counts.tolist() == [3, 1, 1, 0]
    given = np.array([0, 0, 0, 1, 2]), np.array([0, 2, 4, 0, 1])
    assert store.numbered(*given).tolist() == [0, 1, 2, 0, 0]
    # A text of which nothing is left is its special tokens.
    starts, sizes, counts = store.sentences(np.array([3]), 16)
    assert (starts.tolist(), sizes.tolist(), counts.tolist()) == ([0], [2], [1])
    assert store.rows(np.array([3]), 16)[1].tolist() == [2]


@given(st.lists(st.text(alphabet="ab .\t\n", max_size=6), max_size=6))
@settings(max_examples=60, deadline=None)
def test_no_sentence_of_a_list_is_blank(sentences):
    found = abstract_sentences(sentences)
    assert found == [s.strip() for s in sentences if s.strip()]


def test_a_text_is_cut_and_its_sentences_joined_are_the_text():
    text = "We parse  text (Fig. 2).\nIt works, i.e. well. See Smith et al. for more!"
    found = abstract_sentences(text)
    assert found == [
        "We parse text (Fig. 2).",
        "It works, i.e. well.",
        "See Smith et al. for more!",
    ]
    assert abstract_sentences(None) == abstract_sentences(" \n") == []


def test_a_store_sent_to_a_worker_is_mapped_there(tokenizer, tmp_path):
    store = write_sentence_store(tmp_path / "s", tokenizer, InputFormat(), sentenced_papers(300))
    store.sentences(np.arange(300), 64)
    sent = pickle.dumps(store)
    assert len(sent) < 3000
    again = pickle.loads(sent)
    for one, other in zip(
        again.sentences(np.arange(300), 64), store.sentences(np.arange(300), 64), strict=True
    ):
        assert one.tolist() == other.tolist()


@pytest.mark.parametrize(
    "name", ["sentence_starts.npy", "sentence_lengths.npy", "sentence_offsets.npy", "00000.bin"]
)
def test_a_store_that_was_cut_short_or_lacks_a_file_is_refused(tokenizer, tmp_path, name):
    papers = sentenced_papers(30)
    write_sentence_store(tmp_path / "s", tokenizer, InputFormat(), papers)
    path = tmp_path / "s" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 8])
    with pytest.raises(UserError, match=r"damaged.* prepare"):
        SentenceIndexedTokens.open(tmp_path / "s")
    path.unlink()
    with pytest.raises(UserError, match=r"damaged.* prepare"):
        SentenceIndexedTokens.open(tmp_path / "s")
    if name == "sentence_lengths.npy":  # another store's file
        np.save(path, np.ones(3, np.int32))
        with pytest.raises(UserError, match="3 lengths of sentences"):
            SentenceIndexedTokens.open(tmp_path / "s")


def write_papers(tmp_path):
    import json

    rows = [
        {"paper_id": "a", "title": "word1 word2", "abstract": "word3 word4. Word5 word6. Word7."},
        {"paper_id": "b", "title": "word8", "abstract": ["word9 word1.", " ", "word2."]},
        {"paper_id": "c", "title": "word3", "abstract": None},
    ]
    path = tmp_path / "papers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_prepare_adds_tokens_of_sentences_to_a_corpus_that_is_there(tiny_bert, tmp_path):
    given = {"papers": write_papers(tmp_path), "to": tmp_path / "c", "tokenizer": tiny_bert}
    corpus = prepare(PrepareSettings(**given))
    key = TextTokenizer.load(tiny_bert).key(InputFormat())
    assert not corpus.has_tokens(key, SENTENCE_INDEXED_TOKENS)
    with pytest.raises(UserError, match=r"with none.*--sentence-tokens"):
        corpus.tokens(key, SENTENCE_INDEXED_TOKENS)
    with pytest.raises(UserError, match="--sentence-tokens"):
        next(corpus.sentences())
    before = (corpus.folder / "papers.parquet").stat().st_mtime_ns
    corpus = prepare(PrepareSettings(**given, sentence_tokens=True))
    assert (corpus.folder / "papers.parquet").stat().st_mtime_ns == before
    assert list(corpus.sentences()) == [
        ("word1 word2", ["word3 word4.", "Word5 word6.", "Word7."]),
        ("word8", ["word9 word1.", "word2."]),
        ("word3", []),
    ]
    store = corpus.tokens(key, SENTENCE_INDEXED_TOKENS)
    assert store.sentence_counts.tolist() == [3, 2, 0]
    assert corpus.info["sentenced_stores"][key]["sentences"] == 5
    assert [p.name for p in corpus.folder.iterdir() if p.name.startswith(".")] == []
    # Another form takes the same sentences.
    cut = (corpus.folder / "abstract_sentences.parquet").stat().st_mtime_ns
    input_format = InputFormat(sentences="sep")
    corpus = prepare(PrepareSettings(**given, sentence_tokens=True, input_format=input_format))
    assert (corpus.folder / "abstract_sentences.parquet").stat().st_mtime_ns == cut
    assert len(corpus.info["sentenced_stores"]) == 2


def test_tokens_of_sentences_need_papers_and_a_tokenizer(tmp_path):
    for said in ({"papers": "p"}, {"fulltexts": "f", "tokenizer": "t"}):
        with pytest.raises(UserError, match="give --papers and --tokenizer"):
            PrepareSettings(**said, sentence_tokens=True)


def test_sentences_of_another_number_of_papers_are_refused(tiny_bert, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    given = {"papers": write_papers(tmp_path), "to": tmp_path / "c", "tokenizer": tiny_bert}
    corpus = prepare(PrepareSettings(**given, sentence_tokens=True))
    pq.write_table(pa.table({"sentences": [["a"]]}), corpus.folder / "abstract_sentences.parquet")
    (corpus.folder / "checksums.json").unlink()  # as of a folder that another program completed
    with pytest.raises(UserError, match=r"1 papers, and 3 are expected"):
        list(corpus.sentences())
