import gzip
import io
import json
import os

import numpy as np
import pytest
import zstandard

from sciembed_train.cli import main as train
from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.build import cached_corpus, prepare
from sciembed_train.corpus.build_job import open_fulltexts
from sciembed_train.corpus.fulltext import documents
from sciembed_train.corpus.fulltext.documents import collapse
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.splits import assign_splits
from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_kinds import DOCUMENT_TOKENS
from sciembed_train.errors import UserError
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.paper_files import write_paper_files

ALL = {"dev_share": 0.0, "test_share": 0.0}  # every document for training


def words(n, seed=0):
    rng = np.random.default_rng(seed)
    return " ".join(f"word{w}" for w in rng.integers(0, 200, n))


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def made(source, **values):
    to = source.parent / f"{source.name}-corpus"
    return prepare(PrepareSettings(fulltexts=source, to=to, **{**ALL, **values}))


def read(corpus):
    return dict(zip(corpus.document_ids(), corpus.document_texts(), strict=True))


def report_of(corpus):
    return json.loads((corpus.folder / "report.json").read_text())["fulltexts"]


def run(*arguments):
    return train(["prepare", *map(str, arguments)])


@pytest.mark.parametrize("ending", ["txt", "txt.gz", "txt.zst"])
def test_a_text_file_holds_one_document_a_line(tmp_path, ending):
    data = (
        b"\xef\xbb\xbfFirst  one,\twhole.\r\n\r\n   \r\nsecond \xc3\xbc\r\nFirst one, whole.\nlast"
    )
    data = {"txt": bytes, "txt.gz": gzip.compress, "txt.zst": zstandard.compress}[ending](data)
    (tmp_path / f"my.{ending}").write_bytes(data)
    corpus = made(tmp_path / f"my.{ending}")
    name = f"my.{ending}"
    assert read(corpus) == {
        f"{name}:1": "First one, whole.",
        f"{name}:4": "second ü",
        f"{name}:6": "last",
    }
    report = report_of(corpus)
    assert (report["rows"], report["kept"]) == (6, 3)
    places = {reason: d["examples"] for reason, d in report["dropped"].items()}
    assert places == {
        "empty": [f"{tmp_path / name}:{line}" for line in (2, 3)],
        "a text given before": [f"{tmp_path / name}:5"],
    }
    assert corpus.info["counts"]["documents"] == 3
    assert corpus.info["counts"]["documents_by_split"] == {"train": 3, "dev": 0, "test": 0}


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet", "jsonl.zst"])
def test_every_format_of_file_gives_the_same_documents(tmp_path, ending):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"paper_id": "a", "title": "The title", "text": "one two", "other": "x"},
        {"paper_id": "7", "title": "", "text": "three\nfour", "other": "y"},
    ]
    path = tmp_path / f"d.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "csv":
        path.write_text('paper_id,title,text\na,The title,one two\n7,,"three\nfour"\n')
    elif ending == "json":
        path.write_text(json.dumps(rows))
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(zstandard.compress(data) if ending.endswith("zst") else data)
    assert read(made(path)) == {"a": "The title one two", "7": "three four"}


def test_a_corpus_is_not_read_as_full_texts(tmp_path):
    (tmp_path / "corpus.json").write_text("{}")
    with pytest.raises(UserError, match=r"is a corpus that prepare made.*--data\.corpus"):
        open_fulltexts(tmp_path)


def test_a_folder_is_searched_with_those_within_it(tmp_path):
    folder = tmp_path / "in"
    write_lines(folder / "b.jsonl", [{"text": "from b"}])
    write_lines(folder / "a" / "deep" / "c.jsonl", [{"paper_id": 5, "text": "from c"}])
    record = {"metadata": {"title": "T"}, "abstract": [], "body_text": [{"text": "from d"}]}
    (folder / "a" / "d.json").write_text(json.dumps(record))
    (folder / "a" / "e.txt").write_text("from e\n")
    (folder / "a" / "readme.md").write_text("not read")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "f.txt").write_text("not read either\n")
    corpus = made(folder)
    assert read(corpus) == {
        "a/d.json:1": "T from d",
        "5": "from c",
        "a/e.txt:1": "from e",
        "b.jsonl:1": "from b",
    }
    assert report_of(corpus)["notes"] == [
        f"{folder}: files that were not read, because their ending says no format of full texts: 1."
    ]
    (source,) = corpus.info["sources"]
    assert (source["name"], source["files"]) == ("in", 4)
    stamp = os.stat(corpus.folder / "corpus.json").st_mtime_ns
    assert os.stat(made(folder).folder / "corpus.json").st_mtime_ns == stamp
    (folder / "a" / "e.txt").rename(folder / "a" / "g.txt")
    assert "a/g.txt:1" in made(folder).document_ids()


def test_a_split_is_a_hash_of_the_id_and_given_ids_stand_above_it(tmp_path):
    rows = [{"paper_id": f"d{i}", "text": words(5, i)} for i in range(300)]
    path = write_lines(tmp_path / "d.jsonl", rows)
    corpus = made(path, dev_share=0.2, test_share=0.1, seed=3)
    ids = corpus.document_ids()
    expected = assign_splits(ids, 3, 0.2, 0.1)
    for number, split in enumerate(SPLITS):
        assert corpus.documents(split).tolist() == np.flatnonzero(expected == number).tolist()
    assert 30 < len(corpus.documents("dev")) < 90
    (tmp_path / "dev.txt").write_text("d3\nd7\nnobody\n")
    corpus = made(path, dev_ids=tmp_path / "dev.txt")
    assert [corpus.document_ids()[i] for i in corpus.documents("dev")] == ["d3", "d7"]
    assert report_of(corpus)["ids that name no document"] == {
        "dev": {"count": 1, "examples": ["nobody"]}
    }
    (tmp_path / "dev.txt").write_text("nobody\n")
    with pytest.raises(UserError, match="not one of its 1 ids is the id of a document"):
        made(path, dev_ids=tmp_path / "dev.txt")
    (tmp_path / "dev.txt").write_text("d3\n")
    with pytest.raises(UserError, match="1 ids are both dev and test"):
        made(path, dev_ids=tmp_path / "dev.txt", test_ids=tmp_path / "dev.txt")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": 17}', r"d\.jsonl:3: `text` is the number 17; expected text"),
        ("{broken", r"d\.jsonl:3: this is not JSON"),
        ('{"text": "a", "paper_id": "d1"}', r"`paper_id` 'd1' was given before, at .*jsonl:2;"),
        ('{"text": "a", "paper_id": [1]}', "`paper_id` is a list of 1"),
        ('{"text": "a \\ud800"}', "half of a surrogate pair"),
        (b'{"text": "a \xff"}', r"d\.jsonl:3: this is not UTF-8: byte 0xff"),
        ('{"body": "a"}', "there is no `text`"),
    ],
)
def test_a_malformed_row_stops_the_command_unless_allowed_for(tmp_path, row, message):
    path = write_lines(
        tmp_path / "d.jsonl", [{"paper_id": f"d{i}", "text": f"t {i}"} for i in (0, 1)]
    )
    with path.open("ab") as file:
        file.write(row if isinstance(row, bytes) else row.encode())
    with pytest.raises(UserError, match=message) as refused:
        made(path)
    assert "1 of 3 rows is like this." in str(refused.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.jsonl"]
    corpus = made(path, max_bad_rows=1)
    assert corpus.n_documents == 2
    assert [d["examples"] for d in report_of(corpus)["malformed"].values()] == [[f"{path}:3"]]


def test_bytes_that_are_no_text_are_refused_with_their_place(tmp_path, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / "b.txt").write_bytes(rng.integers(0, 256, 50000, dtype=np.uint8).tobytes())
    assert run("--fulltexts", tmp_path / "b.txt", "--to", tmp_path / "c", "--quiet") == 2
    assert "b.txt is not text: it has a NUL byte at position" in capsys.readouterr().err
    data = b"a good line\n" + rng.integers(128, 256, 900, dtype=np.uint8).tobytes() + b"\nlast\n"
    (tmp_path / "b.txt").write_bytes(data)
    assert run("--fulltexts", tmp_path / "b.txt", "--to", tmp_path / "c", "--quiet") == 2
    report_text = capsys.readouterr().err
    assert "b.txt:2: this is not UTF-8: byte 0x" in report_text
    assert "skip it with --max-bad-rows 1" in report_text
    assert not (tmp_path / "c").exists()
    (tmp_path / "w.txt").write_bytes("wide\n".encode("utf-16"))
    assert run("--fulltexts", tmp_path / "w.txt", "--to", tmp_path / "c", "--quiet") == 2
    assert "w.txt is UTF-16; save it as UTF-8." in capsys.readouterr().err


def test_nothing_to_read_and_nothing_to_train_on_are_told_with_counts(tmp_path):
    (tmp_path / "e.txt").write_text("\n\n  \n")
    with pytest.raises(UserError, match=r"no document with a text among 3 rows \(3: empty, the fi"):
        made(tmp_path / "e.txt")
    (tmp_path / "none.txt").write_text("")
    with pytest.raises(UserError, match="no document with a text among 0 rows"):
        made(tmp_path / "none.txt")
    (tmp_path / "o.txt").write_text("one\ntwo\n")
    with pytest.raises(UserError, match=r"all 2 documents are held out .* Lower --dev-share"):
        made(tmp_path / "o.txt", dev_share=0.999)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no file of full texts; endings are .*txt"):
        made(tmp_path / "empty")
    with pytest.raises(UserError, match="there is no such file or folder"):
        made(tmp_path / "missing.txt")
    (tmp_path / "p.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="`text` or `title` or `abstract` is not among them: a, b"):
        made(tmp_path / "p.csv")


def test_a_document_of_one_word_is_a_document(tmp_path, tiny_bert):
    (tmp_path / "o.txt").write_text("word1\n")
    corpus = made(tmp_path / "o.txt", tokenizer=tiny_bert)
    key = TextTokenizer.load(tiny_bert).document_key
    assert corpus.tokens(key, DOCUMENT_TOKENS).lengths.tolist() == [1]


def test_white_space_is_collapsed_and_control_characters_go():
    assert collapse(" a\tb\n\n c\u00a0d\u2003e\x0cf ") == "a b c d e f"
    assert collapse("b\x00in\x93ary\x7f \ufefftext") == "binary text"
    assert collapse(" \n") == ""
    with pytest.raises(BadRow, match="surrogate"):
        collapse("a \ud800")


def test_a_long_text_is_collapsed_in_pieces_to_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    letters = np.array(list("ab \n\t"))
    texts = ["".join(letters[rng.integers(0, 5, n)]) for n in (0, 1, 9, 10, 11, 12, 57, 300, 999)]
    monkeypatch.setattr(documents, "LONGEST_RUN", 40)
    for piece in (1, 2, 10, 13):
        monkeypatch.setattr(documents, "PART", piece)
        for text in texts:
            assert collapse(text) == " ".join(text.split())
        assert collapse("a b " + "c" * 30) == "a b " + "c" * 30
        with pytest.raises(BadRow) as error:
            collapse("a b " + "c" * 200)
        result = error.value
        assert "over 40 characters stand without a white space" in result.message


def test_a_very_long_line_is_read_and_tokenised(tmp_path, tiny_bert):
    n = 700_000
    (tmp_path / "l.txt").write_text(" ".join(["word7 ab"] * (n // 2)) + "\nword1\n")
    tokenizer = TextTokenizer.load(tiny_bert)
    corpus = made(tmp_path / "l.txt", tokenizer=tiny_bert)
    store = corpus.tokens(tokenizer.document_key, DOCUMENT_TOKENS)
    each = tokenizer.encode(["word7 ab"])[0]
    assert store.lengths.tolist() == [len(each) * n // 2, 1]
    last, _ = store.slices([0], [store.lengths[0] - len(each)], [len(each)])
    assert last.tolist() == [*store.prefix, *each, *store.suffix]


def test_a_second_tokenizer_adds_only_its_tokens(tmp_path, tiny_bert, tiny_roberta, capsys):
    path = write_lines(
        tmp_path / "d.jsonl", [{"paper_id": i, "text": words(20 + i, i)} for i in range(30)]
    )
    arguments = ["--fulltexts", path, "--to", tmp_path / "c"]
    assert run(*arguments) == 0
    assert "30 documents" in capsys.readouterr().out
    parquet = tmp_path / "c" / "documents.parquet"
    stamp = parquet.stat().st_mtime_ns
    for tokenizer in (tiny_bert, tiny_roberta, tiny_bert):
        assert run(*arguments, "--tokenizer", tokenizer) == 0
        out, err = capsys.readouterr()
        assert f"by {tokenizer}" in out
    assert "document tokens" not in err  # they were there
    assert parquet.stat().st_mtime_ns == stamp
    corpus = Corpus.open(tmp_path / "c")
    assert len(corpus.info["document_stores"]) == 2
    assert corpus.info["token_stores"] == {}
    for folder in (tiny_bert, tiny_roberta):
        tokenizer = TextTokenizer.load(folder)
        store = corpus.tokens(tokenizer.document_key, DOCUMENT_TOKENS)
        expected = [len(ids) for ids in tokenizer.encode_documents(corpus.document_texts())]
        assert store.lengths.tolist() == expected
        report_text = corpus.info["document_stores"][tokenizer.document_key]
        assert report_text["tokens"] == sum(expected)
    assert run(*arguments, "--json", "--quiet") == 0
    report_text = json.loads(capsys.readouterr().out)
    assert report_text["documents"] == 30
    assert sum(report_text["documents_by_split"].values()) == 30
    assert set(report_text["document_stores"]) == set(corpus.info["document_stores"])


def test_papers_and_documents_share_a_corpus(tmp_path, tiny_bert, capsys):
    write_paper_files(tmp_path)
    write_lines(
        tmp_path / "d.jsonl", [{"paper_id": f"p{i}", "text": words(9, i)} for i in range(9)]
    )
    (tmp_path / "dev.txt").write_text("p1\np3\n")
    arguments = ["--papers", tmp_path / "papers.jsonl", "--citations", tmp_path / "citations.csv"]
    arguments += ["--fulltexts", tmp_path / "d.jsonl", "--to", tmp_path / "c", "--memory", "1GB"]
    arguments += ["--tokenizer", tiny_bert, "--dev-ids", tmp_path / "dev.txt", "--test-share", 0]
    assert run(*arguments) == 0
    assert "120 papers (12 without a text), " in capsys.readouterr().out
    corpus = Corpus.open(tmp_path / "c")
    names, ids = corpus.paper_ids(), corpus.document_ids()
    assert [names[q] for q in corpus.queries("dev")] == ["p1", "p3"]
    assert [ids[d] for d in corpus.documents("dev")] == ["p1", "p3"]
    tokenizer = TextTokenizer.load(tiny_bert)
    assert corpus.has_tokens(tokenizer.document_key, DOCUMENT_TOKENS)
    assert len(corpus.info["token_stores"]) == 1
    alone = PrepareSettings(
        papers=tmp_path / "papers.jsonl",
        citations=tmp_path / "citations.csv",
        to=tmp_path / "alone",
        dev_ids=tmp_path / "dev.txt",
        test_share=0.0,
    )
    for split in SPLITS:
        assert np.array_equal(prepare(alone).triplets(split), corpus.triplets(split))


def test_a_papers_file_is_a_file_of_short_documents(tmp_path):
    papers, _ = write_paper_files(tmp_path)
    corpus = made(tmp_path / "papers.jsonl")
    texts = read(corpus)
    with_text = [p for p in papers if p["title"] or p["abstract"]]
    composed = {
        " ".join(
            [
                p["title"],
                *([p["abstract"]] if isinstance(p["abstract"], str) else p["abstract"] or []),
            ]
        )
        for p in with_text
    }
    assert {" ".join(text.split()) for text in composed} == set(texts.values())
    report = report_of(corpus)
    assert report["dropped"]["empty"]["count"] == 12
    assert report["kept"] + sum(d["count"] for d in report["dropped"].values()) == 120


def test_csv_of_triplets_is_not_written_where_there_are_none(tmp_path, capsys):
    (tmp_path / "d.txt").write_text("one\ntwo\n")
    arguments = ["--fulltexts", tmp_path / "d.txt", "--to", tmp_path / "c", "--dev-share", 0]
    assert run(*arguments, "--test-share", 0, "--csv", tmp_path / "csv") == 0
    assert "There are no triplets to write as CSV" in capsys.readouterr().err
    assert not (tmp_path / "csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "prepare needs --papers, a file of papers, --fulltexts, a file"),
        (["--citations", "x.csv"], "prepare needs --papers"),
        (["--fulltexts", "d.txt", "--citations", "x.csv"], "--citations names papers: give --pap"),
        (["--fulltexts", "d.txt", "--pairs", "x.csv"], "--pairs names papers"),
        (["--fulltexts", "d.txt", "--format", "specter"], "--format specter is one of papers"),
        (["--fulltexts", "d.txt", "--format", "unarxive"], "this is a plain record; --format unar"),
        (["--fulltexts", "d.pdf"], "d.pdf: the ending says no format of full texts"),
    ],
)
def test_wrong_arguments_are_told(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.txt").write_text("one\n")
    (tmp_path / "d.pdf").write_text("one\n")
    assert run(*arguments, "--to", "c") == 2
    assert message in capsys.readouterr().err


def test_a_recipe_names_the_full_texts(tmp_path, tiny_bert):
    (tmp_path / "d.txt").write_text(f"{words(9)}\n{words(9, 1)}\n")
    (tmp_path / "r.yaml").write_text(
        f"data: {{fulltexts: {tmp_path / 'd.txt'}, dev_share: 0.0, test_share: 0.0}}\n"
        f"model: {{encoder: {{backbone: {tiny_bert}}}}}\n"
    )
    assert run("-c", tmp_path / "r.yaml", "--to", tmp_path / "c", "--quiet") == 0
    key = TextTokenizer.load(tiny_bert).document_key
    assert Corpus.open(tmp_path / "c").has_tokens(key, DOCUMENT_TOKENS)


def test_a_cached_corpus_of_documents_is_made_once(tmp_path, tiny_bert):
    (tmp_path / "d.txt").write_text(f"{words(9)}\n{words(9, 1)}\n")
    settings = PrepareSettings(fulltexts=tmp_path / "d.txt", tokenizer=tiny_bert, **ALL)
    first = cached_corpus(settings, tmp_path / "cache")
    stamp = (first.folder / "corpus.json").stat().st_mtime_ns
    again = cached_corpus(settings, tmp_path / "cache")
    assert (again.folder, (again.folder / "corpus.json").stat().st_mtime_ns) == (
        first.folder,
        stamp,
    )
    with (tmp_path / "d.txt").open("a") as file:
        file.write("word1\n")
    assert cached_corpus(settings, tmp_path / "cache").folder != first.folder


def test_texts_are_written_and_read_in_groups(tmp_path, monkeypatch):
    import pyarrow.parquet as pq

    monkeypatch.setattr(documents, "GROUP_CHARACTERS", 500)
    path = write_lines(tmp_path / "d.jsonl", [{"text": words(30, i)} for i in range(50)])
    corpus = made(path)
    assert pq.ParquetFile(corpus.folder / "documents.parquet").num_row_groups > 10
    assert list(corpus.document_texts()) == [words(30, i) for i in range(50)]
    assert len(io.StringIO(path.read_text()).readlines()) == corpus.n_documents


def test_only_full_texts_need_no_database(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "duckdb", None)
    (tmp_path / "d.txt").write_text("one\n")
    assert made(tmp_path / "d.txt").n_documents == 1
