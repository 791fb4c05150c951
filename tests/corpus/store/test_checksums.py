import json
import shutil

import numpy as np
import pytest

from sciembed_train.cli import main
from sciembed_train.corpus.store import checksums
from sciembed_train.corpus.store.checksums import (
    NAME,
    add_checksum,
    check_file,
    damaged_files,
    record_checksums,
)
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.mined_negatives import read_negatives, write_negatives
from sciembed_train.corpus.store.token_kinds import PART_TOKENS, SENTENCE_INDEXED_TOKENS
from sciembed_train.errors import UserError
from tests.helpers.paper_files import write_paper_files


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, tiny_bert):
    """A corpus with tokens of three kinds and mined negatives, made by the command."""
    folder = tmp_path_factory.mktemp("prepared")
    write_paper_files(folder)
    words = ["--papers", folder / "papers.jsonl", "--citations", folder / "citations.csv"]
    words += ["--to", folder / "corpus", "--tokenizer", tiny_bert, "--memory", "1GB", "--quiet"]
    words += ["--sentence-tokens", "--part-tokens"]
    assert main(["prepare", *map(str, words)]) == 0
    corpus = Corpus.open(folder / "corpus")
    queries = np.array([1, 4])
    write_negatives(corpus, "near", queries, np.array([[2, 3], [5, -1]]), np.ones((2, 2)), {})
    return corpus.folder


@pytest.fixture
def corpus(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "corpus")
    return tmp_path / "corpus"


def flip(path, place=0.5):
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    path.write_bytes(content)


def read_all(folder):
    """Open and read all that training, mining and `show` read."""
    corpus = Corpus.open(folder)
    for split in ("train", "dev", "test"):
        corpus.triplets(split), corpus.hard(split), corpus.queries(split)
    corpus.citations(), corpus.paper_splits(), corpus.distinct_papers(), corpus.paper_ids()
    corpus.titles()
    list(corpus.papers())
    list(corpus.sentences())
    read_negatives(corpus, "near")
    for entry, kind in (
        ("tokens", None),
        ("sentenced_tokens", SENTENCE_INDEXED_TOKENS),
        ("part_tokens", PART_TOKENS),
    ):
        key = next((folder / entry).iterdir()).name
        store = corpus.tokens(key) if kind is None else corpus.tokens(key, kind)
        store.rows(np.arange(len(store)), 512)


# For people and other programs; the program reads the arrays beside them.
NOT_READ = (
    *("citations.parquet", "report.json", "report.html"),
    *("train.parquet", "dev.parquet", "test.parquet"),
)


@pytest.mark.slow
def test_a_flipped_bit_of_any_file_is_an_error_that_names_it(corpus, capsys):
    read_all(corpus)
    files = [p for p in corpus.rglob("*") if p.is_file() and p.name not in (NAME, "corpus.json")]
    assert len(files) > 25
    read = 0
    for path in files:
        whole = path.read_bytes()
        if not whole:
            continue
        flip(path)
        assert main(["prepare", "--verify", "--to", str(corpus)]) == 2
        said = capsys.readouterr().err
        assert f"{path}: its checksum is another" in said
        if path.name not in NOT_READ:
            with pytest.raises(UserError) as error:
                read_all(corpus)
            assert f"{path} is damaged: its checksum is another" in str(error.value)
            read += 1
        path.write_bytes(whole)
    assert read > 20
    read_all(corpus)
    assert main(["prepare", "--verify", "--to", str(corpus)]) == 0
    assert f"{len(files)} files are as they were written" in capsys.readouterr().out


def test_what_is_missing_cut_or_longer_is_told_too(corpus):
    (corpus / "citations.npy").unlink()
    with (corpus / "paper_splits.npy").open("ab") as file:
        file.write(b"x")
    compared, lines = damaged_files(corpus)
    assert compared > 25
    assert lines[0] == f"{corpus / 'citations.npy'}: it is missing"
    assert "paper_splits.npy: it has" in lines[1]
    assert "were written" in lines[1]
    assert len(lines) == 2


def test_large_files_are_not_read_when_they_are_opened(corpus, monkeypatch):
    monkeypatch.setattr(checksums, "SMALL", 10)
    path = corpus / "triplets" / "train.hard.npy"
    flip(path, 1.0)
    Corpus.open(corpus).hard("train")
    assert damaged_files(corpus)[1] == [
        f"{path}: its checksum is another than that of the bytes that were written"
    ]


def test_a_file_is_read_once_as_long_as_it_does_not_change(corpus, monkeypatch):
    reads = []
    digest = checksums._sha256
    monkeypatch.setattr(checksums, "_sha256", lambda path: reads.append(path) or digest(path))
    for _ in range(3):
        Corpus.open(corpus).citations()
    assert reads == [corpus / "citations.npy"]


def test_a_damaged_record_is_told(corpus):
    (corpus / NAME).write_text("{")
    with pytest.raises(UserError, match=r"checksums\.json is damaged"):
        Corpus.open(corpus).citations()


def test_files_without_a_record_are_read_as_they_are(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"x")
    check_file(tmp_path / "a.npy")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_bytes(b"y")
    record_checksums(tmp_path / "sub")
    record_checksums(tmp_path)
    assert list(json.loads((tmp_path / NAME).read_text())["files"]) == ["a.npy"]
    (tmp_path / "c").write_bytes(b"z")
    check_file(tmp_path / "c")
    add_checksum(tmp_path / "c")
    check_file(tmp_path / "c")
    flip(tmp_path / "c")
    with pytest.raises(UserError, match=r"/c is damaged.*Remove .* and make it again"):
        check_file(tmp_path / "c")


def test_a_folder_without_checksums_cannot_be_verified(tmp_path, capsys):
    assert main(["prepare", "--verify", "--to", str(tmp_path)]) == 2
    assert "neither checksums.json nor a .ckpt file" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"has no checksums\.json"):
        damaged_files(tmp_path)


@pytest.mark.parametrize(
    "name", ["citations.npy", "triplets/train.npy", "negatives/near/negatives.npy"]
)
def test_a_number_that_no_paper_has_is_an_error_that_names_the_file(corpus, name):
    """As in a folder that was copied without its checksums, or written by another program."""
    for record in corpus.rglob(NAME):
        record.unlink()
    array = np.load(corpus / name)
    array[1, 1] = 120
    np.save(corpus / name, array)
    with pytest.raises(UserError, match=rf"{name} is damaged: it holds the number 120, and 120"):
        read_all(corpus)


def test_offsets_and_tokens_that_cannot_be_are_errors_that_name_the_file(corpus):
    for record in corpus.rglob(NAME):
        record.unlink()
    folder = next((corpus / "tokens").iterdir())

    def read():
        store = Corpus.open(corpus).tokens(folder.name)
        store.rows(np.arange(len(store)), 512)

    whole = np.load(folder / "offsets.npy")
    for change in (10**9, -(10**9)):
        offsets = whole.copy()
        offsets[7] += change
        np.save(folder / "offsets.npy", offsets)
        with pytest.raises(UserError, match=r"offsets\.npy is damaged: text \d+ begins or ends"):
            read()
        with pytest.raises(UserError, match=r"offsets\.npy is damaged: text \d+ ends before it"):
            _ = Corpus.open(corpus).tokens(folder.name).lengths
    np.save(folder / "offsets.npy", whole)
    tokens = np.fromfile(folder / "00000.bin", np.uint16)
    tokens[11] = 60_000
    tokens.tofile(folder / "00000.bin")
    with pytest.raises(UserError, match=r"00000\.bin is damaged: it holds the token 60000"):
        read()
    with pytest.raises(UserError, match=r"has the texts 0 to 119, and 120 was asked for"):
        Corpus.open(corpus).tokens(folder.name).rows(np.array([120]), 512)
