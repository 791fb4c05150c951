import contextlib
import gzip
import os

import numpy as np
import pytest

from sciembed_train.cli import main
from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.readers import files, json_members
from sciembed_train.corpus.readers.files import missing_package, read_lines, refuse_binary, sha256
from sciembed_train.corpus.readers.tables import Table
from sciembed_train.errors import UserError
from sciembed_train.inference.paper_file import PaperFile
from tests.helpers.data_files import ROWS, compress, encode, read_table


def test_damaged_and_unreadable_files_are_refused(tmp_path):
    import zstandard

    whole = encode("jsonl", ROWS * 5000)
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(whole)[:-500])
    (tmp_path / "not.jsonl.gz").write_bytes(whole)
    (tmp_path / "cut.jsonl.zst").write_bytes(zstandard.compress(whole)[:-50])
    (tmp_path / "not.jsonl.zst").write_bytes(whole)
    (tmp_path / "not.parquet").write_bytes(whole)
    (tmp_path / "cut.parquet").write_bytes(encode("parquet")[:-10])
    for path in tmp_path.iterdir():
        with pytest.raises(UserError, match=rf"{path.name}.* (damaged|not a Parquet file)"):
            read_table(path)
    (tmp_path / "wide.csv").write_bytes("paper_id,title\n".encode("utf-16"))
    with pytest.raises(UserError, match="is UTF-16; save it as UTF-8"):
        read_table(tmp_path / "wide.csv")


def test_several_compressed_frames_are_read_as_one_file(tmp_path):
    for ending in (".gz", ".zst"):
        path = tmp_path / f"p.jsonl{ending}"
        path.write_bytes(b"".join(compress(encode("jsonl", [row]), ending) for row in ROWS))
        assert [row for _, row in read_table(path)] == ROWS


def test_lines_are_numbered_and_bytes_that_are_no_text_are_reported(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\n  \n\xff\nlast")
    (first, bad, last) = read_lines(path)
    assert (first, last) == ((1, "one"), (5, "last"))
    assert bad[0] == 4
    assert isinstance(bad[1], BadRow)
    assert "byte 0xff at position 1" in bad[1].message
    assert [number for number, _ in read_lines(path, empty=True)] == [1, 2, 3, 4, 5]


def test_a_binary_file_is_refused_with_the_place_of_its_byte(tmp_path):
    path = tmp_path / "x.txt"
    path.write_bytes(b"ab\0c")
    with pytest.raises(UserError, match="NUL byte at position 3"):
        refuse_binary(path)
    with pytest.raises(UserError, match=r"none\.txt cannot be read"):
        sha256(tmp_path / "none.txt")


def test_a_missing_library_is_named_with_the_command_that_installs_it():
    error = missing_package("zstandard", ".zst files")
    assert ".zst files need the package zstandard" in str(error)
    assert "pip install" in str(error)


def peak_while(read, *arguments):
    """The most memory that Python held at once, in MB, above what it held before."""
    import tracemalloc

    tracemalloc.start()
    try:
        with contextlib.suppress(UserError):
            read(*arguments)
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv"])
@pytest.mark.parametrize("byte", [b"\0", b" "])
def test_a_large_gzip_of_nothing_takes_no_memory(tmp_path, ending, byte):
    path = tmp_path / f"nothing{ending}.gz"
    piece = byte * (1 << 20)
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(100):
            file.write(piece)
    assert peak_while(read_table, path) < 20


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv"])
def test_a_file_of_nul_bytes_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match=rf"{name}.*(NUL byte at position 1|is not JSON)"):
        read_table(tmp_path / name)


def test_a_line_without_an_end_is_refused_at_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_LINE", 3 << 20)
    monkeypatch.setattr(json_members, "MAX_LINE", 3 << 20)
    for name, head in (("p.jsonl", b"{}\n"), ("p.csv", b"id\n"), ("p.json", b'[{},\n"')):
        path = tmp_path / name
        path.write_bytes(head + b"x" * (9 << 20))
        with pytest.raises(UserError, match=rf"{name}:2: a (line|record) of more than 3 MB begins"):
            read_table(path)


def test_a_record_that_is_broken_is_told_before_the_file_was_read_to_its_end(tmp_path):
    path = tmp_path / "p.json"
    path.write_bytes(b'[{"a": nonsense},\n' + b'{"a": "b"},\n' * 2_000_000)
    assert peak_while(read_table, path) < 10
    with pytest.raises(UserError, match=r"p\.json:1: this is not JSON.*record 1"):
        read_table(path)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv"])
def test_a_line_of_100_megabytes_is_read(tmp_path, ending):
    text = "word " * (20 << 20)
    path = tmp_path / f"p{ending}"
    if ending == ".csv":
        path.write_text(f"paper_id,title\na,{text}\n")
    else:
        path.write_text(f'{{"paper_id": "a", "title": "{text}"}}\n')
    ((_, row),) = read_table(path)
    assert row["title"] == text


@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv", "p.tsv"])
def test_a_mark_windows_line_ends_and_utf16_are_read_or_refused_in_every_format(tmp_path, name):
    path = tmp_path / name
    text = encode(path.suffix[1:], [{"paper_id": "a", "title": "One"}])
    path.write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert [row for _, row in read_table(path)] == [{"paper_id": "a", "title": "One"}]
    path.write_bytes(text.decode().encode("utf-16"))
    with pytest.raises(UserError, match=rf"{name} is UTF-16; save it as UTF-8"):
        read_table(path)


def test_a_pipe_is_refused_and_a_symbolic_link_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(UserError, match=r"pipe\.jsonl: is a pipe or a device"):
        Table(tmp_path / "pipe.jsonl", "papers")
    (tmp_path / "real.jsonl").write_bytes(encode("jsonl"))
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    assert [row for _, row in read_table(tmp_path / "link.jsonl")] == ROWS


# Files that are cut or not text, of every format of papers.
WHOLE = {
    ".jsonl": b'{"paper_id": "a", "title": "One"}\n' * 3,
    ".json": b'[{"paper_id": "a", "title": "One"}]',
    ".csv": b'paper_id,title\na,"One"\n',
    ".tsv": b'paper_id\ttitle\na\t"One"\n',
    ".bib": b"@misc{a,\n title = {One}}\n",
    ".ris": b"TY  - JOUR\nID  - a\nTI  - One\nER  - \n",
    ".nbib": b"PMID- 7\nTI  - One\n",
    ".xml": b"<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>7</PMID><Article>"
    b"<ArticleTitle>One</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
    b"</PubmedArticleSet>",
}


@pytest.mark.parametrize("ending", WHOLE)
def test_a_file_of_every_ending_is_read_and_told_where_it_is_damaged(tmp_path, ending):
    path = tmp_path / f"p{ending}"
    path.write_bytes(WHOLE[ending])
    assert {paper.title for paper in PaperFile(path, max_bad_rows=2)} == {"One"}
    cut = tmp_path / f"cut{ending}.gz"
    cut.write_bytes(gzip.compress(WHOLE[ending])[:-9])
    with pytest.raises(UserError, match=r"cut.*\.gz is damaged or not of the format of its end"):
        PaperFile(cut)
    path.write_bytes(b"\0" * 5000)
    with pytest.raises(UserError, match=rf"p\{ending}.*(NUL byte|is not JSON|is not XML)"):
        PaperFile(path)
    (tmp_path / "a_folder").mkdir()
    os.mkfifo(tmp_path / "a_folder" / f"pipe{ending}")
    with pytest.raises(UserError, match="a_folder holds no file of papers"):
        PaperFile(tmp_path / "a_folder")


@pytest.mark.parametrize("ending", [ending for ending in WHOLE if ending != ".nbib"])
def test_a_file_that_is_cut_in_its_last_record_is_told_with_its_place(tmp_path, ending):
    path = tmp_path / f"p{ending}"
    path.write_bytes(WHOLE[ending].rstrip()[:-6])
    with pytest.raises(UserError, match=rf"p\{ending}(:\d|, row|, record)"):
        PaperFile(path)


@pytest.mark.parametrize("ending", WHOLE)
def test_an_empty_file_is_named(tmp_path, ending):
    path = tmp_path / f"nothing{ending}"
    for content in (b"", b"\n\n", b"\xef\xbb\xbf"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"nothing\{ending}: empty"):
            prepare(PrepareSettings(path, to=tmp_path / "corpus"))
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", [".bib", ".ris", ".nbib", ".xml"])
def test_a_large_gzip_of_nothing_in_formats_of_papers_takes_no_memory(tmp_path, ending):
    path = tmp_path / f"nothing{ending}.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(50):
            file.write(b" " * (1 << 20))
    assert peak_while(PaperFile, path) < 20


@pytest.mark.parametrize("ending", WHOLE)
def test_a_file_with_any_byte_changed_or_cut_is_read_or_refused_and_never_a_crash(tmp_path, ending):
    random = np.random.default_rng(0)
    path = tmp_path / f"p{ending}"
    refused = 0
    for _ in range(200):
        data = bytearray(WHOLE[ending] * (1 if ending in (".json", ".xml") else 2))
        for place in random.integers(0, len(data), random.integers(1, 4)):
            data[place] = random.choice(
                np.frombuffer(b"\0\xff\n\r\t \"{}[]<>&@,;:-\\'1a", np.uint8)
            )
        path.write_bytes(data[: random.integers(1, len(data) + 1)])
        try:
            list(PaperFile(path))
        except UserError:
            refused += 1
    assert 0 < refused <= 200


BOMB = (
    b'<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "&b;&b;">]><PubmedArticleSet>&d;</PubmedArticleSet>'
)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.xml", BOMB, "declares the entity 'b'"),
        (
            "p.xml",
            b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>",
            "entity 'b'",
        ),
        ("p.json", b'[{"paper_id": 1, "title": "t"}, {"paper_id"', "p.json:1: this is not JSON"),
        ("p.jsonl", b'{"id": 1, "title": "\xff"}', "p.jsonl:1: this is not UTF-8"),
        ("p.jsonl.gz", gzip.compress(b'{"id": 1, "title": "a"}\n', mtime=0)[:-9], "is damaged"),
        ("p.jsonl", '{"id": 1, "title": "a"}'.encode("utf-16"), "is UTF-16"),
        ("p.csv", b"id,title\n1,a\n\xff\xff", "p.csv:3: this is not UTF-8"),
        ("p.bib", b"@misc{a, title = {One}", "p.bib:1: this entry is never closed"),
        ("p.json", b'{"id": 1, "title": ["a"]}', "p.json:1: `title` is a list of 1"),
    ],
)
def test_prepare_refuses_bad_files_with_2_and_leaves_all_as_it_was(
    tmp_path, capsys, name, content, said
):
    source = tmp_path / "in" / name
    source.parent.mkdir()
    source.write_bytes(content)
    target = tmp_path / "corpus"
    assert main(["prepare", "--papers", str(source), "--to", str(target), "--quiet"]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert name in message
    assert "Traceback" not in message
    assert source.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
