"""What `prepare` refuses and what it takes: message, exit code, no half corpus, unchanged sources.

Elsewhere are: damaged compression, XML entities and more of each reader (`readers/test_files.py`,
`readers/test_pubmed_xml.py`), a process killed at its last step and sources of a corpus that is
made (`test_build.py`), a full disk (`commands/test_prepare.py`, `test_sql_engine.py`,
`tests/test_full_disk.py`), duplicates under two ids (`test_paper_writing.py`).
"""

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sciembed_train.cli import main
from sciembed_train.corpus.readers import files
from sciembed_train.errors import UserError
from sciembed_train.inference.paper_file import PaperFile
from tests.corpus.readers.test_files import peak_while
from tests.helpers.data_files import read_table
from tests.helpers.paper_files import write_paper_files
from tests.helpers.processes import ROOT


def parquet(**columns):
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def article(number, title):
    return (
        f"<PubmedArticle><MedlineCitation><PMID>{number}</PMID><Article><ArticleTitle>{title}"
        "</ArticleTitle></Article></MedlineCitation></PubmedArticle>\n"
    )


# Three papers in every format, each on the lines that messages name.
PAPERS = {
    "p.jsonl": b'{"id": "a", "title": "One"}\n{"id": "b", "title": "Two"}\n'
    b'{"id": "c", "title": "Six"}\n',
    "p.json": b'[{"id": "a", "title": "One"},\n{"id": "b", "title": "Two"},\n'
    b'{"id": "c", "title": "Six"}]\n',
    "p.csv": b"id,title\na,One\nb,Two\nc,Six\n",
    "p.tsv": b"id\ttitle\na\tOne\nb\tTwo\nc\tSix\n",
    "p.bib": b"@misc{a, title={One}}\n@misc{b, title={Two}}\n@misc{c, title={Six}}\n",
    "p.ris": b"TY  - JOUR\nID  - a\nTI  - One\nER  - \nTY  - JOUR\nID  - b\nTI  - Two\nER  - \n"
    b"TY  - JOUR\nID  - c\nTI  - Six\nER  - \n",
    "p.xml": (
        "<PubmedArticleSet>\n"
        + "".join(article(n, t) for n, t in ((1, "One"), (2, "Two"), (3, "Six")))
        + "</PubmedArticleSet>\n"
    ).encode(),
    "p.parquet": parquet(id=["a", "b", "c"], title=["One", "Two", "Six"]),
}
CITATIONS = {
    "c.csv": b"citing,cited\na,b\nb,c\n",
    "c.tsv": b"citing\tcited\na\tb\nb\tc\n",
    "c.jsonl": b'{"citing": "a", "cited": "b"}\n{"citing": "b", "cited": "c"}\n',
    "c.json": b'[{"citing": "a", "cited": "b"},\n{"citing": "b", "cited": "c"}]\n',
    "c.parquet": parquet(citing=["a", "b"], cited=["b", "c"]),
}
PLAIN = {"p.jsonl": PAPERS["p.jsonl"]}
TEXT_PAPERS = ["p.jsonl", "p.json", "p.csv", "p.bib", "p.ris"]
TEXT_CITATIONS = [name for name in CITATIONS if name != "c.parquet"]


def contents(folder):
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run(tmp_path, sources, *words):
    """The exit code of `prepare` of files by name; ``p`` and ``c`` are papers and citations."""
    folder = tmp_path / "in"
    for name, content in sources.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    tops = dict.fromkeys(name.partition("/")[0] for name in sources)
    options = {"p": "--papers", "c": "--citations"}
    given = [word for name in tops for word in (options[name[0]], str(folder / name))]
    before = contents(folder)
    code = main(["prepare", *given, "--to", str(tmp_path / "corpus"), "--quiet", *words])
    assert contents(folder) == before
    return code


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs `prepare`, which must leave with 2 and nothing behind; its message."""

    def message(sources, *words):
        assert run(tmp_path, sources, *words) == 2
        assert [path.name for path in tmp_path.iterdir()] == ["in"]
        out, err = capsys.readouterr()
        assert not out
        assert err.count("./train prepare: ") == 1
        assert "Traceback" not in err
        return err.replace(f"{tmp_path}/in/", "")

    return message


@pytest.fixture
def accepted(tmp_path):
    """Runs `prepare`, which must make a corpus; its report."""

    def report(sources, *words):
        assert run(tmp_path, sources, *words) == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "in"]
        text = (tmp_path / "corpus" / "report.json").read_text()
        return json.loads(text.replace(f"{tmp_path}/in/", ""))

    return report


@pytest.mark.parametrize(
    ("name", "removed", "said"),
    [
        ("p.jsonl", 6, "p.jsonl:3: this is not JSON: Unterminated string starting at column 22."),
        ("p.json", 6, "p.json:3: this is not JSON: Unterminated string starting in record 3."),
        ("p.csv", 5, "p.csv:4: this row has 1 column; the header has 2. 1 of 3 rows"),
        ("p.ris", 8, "p.ris:9: this record has no line `ER` at its end."),
        ("p.xml", 30, "p.xml:4: this is not XML that can be read: unclosed token."),
        ("p.parquet", 20, "p.parquet: this is not a Parquet file (Parquet magic bytes not found"),
        ("c.csv", 3, "c.csv:3: this row has 1 column; expected citing, cited."),
        ("c.jsonl", 4, "c.jsonl:2: this is not JSON: Unterminated string starting at column 26"),
        ("c.json", 4, "c.json:2: this is not JSON: Unterminated string starting in record 2."),
        ("c.parquet", 20, "c.parquet: this is not a Parquet file"),
    ],
)
def test_a_file_that_is_cut_is_refused_with_its_place(refused, name, removed, said):
    sources = PLAIN | {name: (PAPERS | CITATIONS)[name][:-removed]}
    sources = {k: v for k, v in sources.items() if name[0] == "c" or k == name}
    assert said in refused(sources)


@pytest.mark.parametrize("name", ["p.bib", "p.ris", "p.json", "c.csv", "c.jsonl"])
def test_utf16_is_refused(refused, name):
    content = (PAPERS | CITATIONS)[name].decode().encode("utf-16")
    message = refused({**(PLAIN if name[0] == "c" else {}), name: content})
    assert message == f"./train prepare: {name} is UTF-16; save it as UTF-8.\n"


@pytest.mark.parametrize("name", [*TEXT_PAPERS, "c.csv", "c.jsonl", "c.json"])
def test_invalid_utf8_and_nul_bytes_are_refused_with_their_lines(refused, name):
    content, said = (PAPERS | CITATIONS)[name], []
    values = (b"Six", b"Two") if name[0] == "p" else (b"c", b"b")
    if name.endswith(".json") or name[0] == "c":
        values = values[:1]  # a JSON file has one fault, its first, and `b` stands beside `c`
    for value, byte, what in zip(values, (b"\xe9", b"\0"), ("not UTF-8", "NUL byte"), strict=False):
        place = content.rindex(value)
        line = content.count(b"\n", 0, place) + 1
        said.append((f"{name}:{line}: this ", what, place - content.rfind(b"\n", 0, place)))
        content = content[:place] + byte + content[place:]
    message = refused({**(PLAIN if name[0] == "c" else {}), name: content})
    for place, what, column in said:
        if what == "not UTF-8":
            byte = f"byte 0xe9 at position {column}. Save the file as UTF-8."
            assert f"{place}is not UTF-8: {byte}" in message
        else:
            assert (
                f"{place}has a NUL byte at position {column}" in message
                or f"{name} is not text: it has a NUL byte at position" in message
            )


def test_a_mark_and_windows_line_ends_are_taken(accepted):
    sources = {}
    for number, (name, content) in enumerate(PAPERS.items()):
        if name != "p.parquet":
            for paper_id in (b'"%s"', b"\n%s,", b"\n%s\t", b"{%s,", b"- %s\n"):
                for letter in (b"a", b"b", b"c"):
                    other = letter + b"%d" % number if number else letter
                    content = content.replace(paper_id % letter, paper_id % other)
            sources[f"p/{name}"] = b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")
    for name in TEXT_CITATIONS:
        sources[f"c/{name}"] = b"\xef\xbb\xbf" + CITATIONS[name].replace(b"\n", b"\r\n")
    report = accepted(sources)
    papers, citations = report["papers"], report["citations"]
    assert (papers["rows"], papers["kept"], papers["malformed"]) == (21, 21, {})
    assert (citations["rows"], citations["kept"], citations["malformed"]) == (8, 2, {})
    assert list(citations["dropped"]) == ["given before"]


@pytest.mark.parametrize("name", ["p.csv", "p.jsonl", "p.ris", "c.csv"])
def test_lines_that_end_in_a_carriage_return_alone_are_told(refused, name):
    content = (PAPERS | CITATIONS)[name].replace(b"\n", b"\r")
    message = refused({**(PLAIN if name[0] == "c" else {}), name: content})
    assert f"{name}:1: " in message
    assert "lines end in a carriage return alone (CR)" in message


DATES = pa.array([0, 2**31 - 1], pa.date32())  # the second one is past the year 9999
BYTES = pa.array([b"One", b"\xff"])
NOT_UTF8 = pa.Array.from_buffers(pa.string(), 2, BYTES.buffers())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "p.jsonl",
            b'{"id": "a", "title": "t"}\n[1]\n{"id": "b", "title": 5}\n{"id": null, "title": "t"}\n'
            b'{"id": "c", "title": "t", "references": 5}\n{"title": "t"}\n{"id": "d"}\n'
            b'{"id": "e", "title": "t", "abstract": {"x": 1}}\n' + b"[" * 100_000,
            [
                "p.jsonl:2: this is not an object with fields",
                "p.jsonl:3: `title` is the number 5; expected text or null.",
                "p.jsonl:4: `paper_id` is null; expected text or an integer.",
                "p.jsonl:5: `references` is not a list of ids of papers",
                "p.jsonl:6: there is no `id`; the fields are title.",
                "p.jsonl:7: there is no `title`; the fields are id.",
                "p.jsonl:8: `abstract` is an object with 'x'; expected text, a list of sentences",
                "p.jsonl:9: this is not JSON that can be read: lists or objects stand within one",
                "Correct them, or skip them with --max-bad-rows 8",
            ],
        ),
        ("p.jsonl", b'{"id": 1.5, "title": "t"}', ["`paper_id` is the number 1.5; expected text"]),
        ("p.jsonl", b'{"id": 1' + b"0" * 5000 + b"}", ["p.jsonl:1: ", "too many digits. 1 of 1"]),
        ("p.json", b"[" * 100_000, ["p.json:1: this is not JSON: lists or objects stand within"]),
        ("p.csv", b"id,title\na,One\n,Two", ["p.csv:3: `paper_id` is empty; expected a paper id"]),
        ("p.csv", b"id,name of it\na,One", ["p.csv: no column has a name known for `title`"]),
        ("p.bib", b"@misc{title={One}}", ["p.bib:1: this entry has no key; expected @misc{key"]),
        ("p.xml", article("", "One").encode(), ["p.xml, row 1: `PMID` has no value; expected one"]),
        (
            "p.xml",
            b'<!DOCTYPE a [<!ENTITY b0 "cccccccccc">'
            + b"".join(b'<!ENTITY b%d "%s">' % (i, b"&b%d;" % (i - 1) * 10) for i in range(1, 10))
            + b"]><PubmedArticleSet>&b9;</PubmedArticleSet>",
            ["p.xml:1: this XML declares the entity 'b0'"],
        ),
        (
            "p.parquet",
            parquet(id=["a", None], title=[b"t", b"u"]),
            [
                "p.parquet, row 1: `title` is binary data of 1 bytes; expected text or null.",
                "p.parquet, row 2: `paper_id` is null",
            ],
        ),
        ("p.parquet", parquet(x=["a"], y=["t"]), ["no column has a name known for `paper_id` or"]),
        (
            "p.parquet",
            parquet(id=["a", "b"], title=NOT_UTF8),
            ["p.parquet, row 2: `title`: this is not UTF-8: byte 0xff at position 1."],
        ),
        (
            "p.parquet",
            parquet(id=["a", "b"], title=["t", "u"], day=DATES),
            ["p.parquet, row 2: `day` cannot be read: "],
        ),
        (
            "c.jsonl",
            CITATIONS["c.jsonl"] + b'{"citing": ["a"], "cited": "b"}\n{"citing": "a"}\n'
            b'{"citing": "a", "cited": null}\n',
            [
                "c.jsonl:3: `citing` is a list of 1; expected text or an integer.",
                "c.jsonl:4: there is no `cited`; the fields are citing.",
                "c.jsonl:5: `cited` is null; expected text or an integer.",
            ],
        ),
        ("c.csv", CITATIONS["c.csv"] + b",a\n", ["c.csv:4: `citing` is empty; expected a paper"]),
        ("c.csv", b"citing,cited\na,b\0\n", ["c.csv:2: this has a NUL byte at position 4"]),
        ("c.csv", b"\xffa,b\n\xffb,c\n", ["c.csv:1: this is not UTF-8: byte 0xff at position 1"]),
        (
            "c.parquet",
            parquet(citing=["a", "b"], cited=NOT_UTF8),
            ["row 2: `cited`: this is not U"],
        ),
    ],
)
def test_wrong_types_and_missing_fields_are_refused(refused, name, content, said):
    message = refused({**(PLAIN if name[0] == "c" else {}), name: content})
    for part in said:
        assert part in message


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("p.jsonl", ("p.jsonl:3", "p.jsonl:2")),
        ("p.json", ("p.json:3", "p.json:2")),
        ("p.csv", ("p.csv:4", "p.csv:3")),
        ("p.bib", ("p.bib:3", "p.bib:2")),
        ("p.ris", ("p.ris:9", "p.ris:5")),
        ("p.xml", ("p.xml, row 3", "p.xml, row 2")),
        ("p.parquet", ("p.parquet, row 3", "p.parquet, row 2")),
    ],
)
def test_an_id_given_twice_is_refused_with_both_places(refused, name, places):
    content = PAPERS[name]
    for old, new in ((b'"c"', b'"b"'), (b"\nc,", b"\nb,"), (b"\nc\t", b"\nb\t"), (b"{c,", b"{b,")):
        content = content.replace(old, new)
    content = content.replace(b"- c\n", b"- b\n").replace(b">3<", b">2<")
    if name == "p.parquet":
        content = parquet(id=["a", "b", "b"], title=["One", "Two", "Six"])
    paper_id = "2" if name == "p.xml" else "b"
    said = f"{places[0]}: `paper_id` '{paper_id}' was given before, at {places[1]}; every paper has"
    assert said in refused({name: content})


@pytest.mark.parametrize("name", ["c.csv", "c.jsonl", "c.json", "c.parquet"])
def test_repeated_self_and_unknown_citations_are_counted_with_their_places(accepted, name):
    pairs = ["ab", "bc", "aa", "ab", "az", "zb", "yx"]
    tables = {
        ".csv": "citing,cited\n" + "".join(f"{a},{b}\n" for a, b in pairs),
        ".jsonl": "".join(f'{{"citing": "{a}", "cited": "{b}"}}\n' for a, b in pairs),
        ".json": json.dumps([{"citing": a, "cited": b} for a, b in pairs], indent=None),
    }
    ending = name[1:]
    content = tables.get(ending, "").encode() or parquet(
        citing=[a for a, _ in pairs], cited=[b for _, b in pairs]
    )
    report = accepted({**PLAIN, name: content})["citations"]
    assert (report["rows"], report["kept"], report["malformed"]) == (7, 2, {})
    place = {".csv": ":{}", ".jsonl": ":{}", ".json": ", record {}"}
    shift = ending == ".csv"
    assert {reason: dropped["examples"] for reason, dropped in report["dropped"].items()} == {
        reason: [name + place.get(ending, ", row {}").format(row + shift)]
        for reason, row in {
            "a paper citing itself": 3,
            "given before": 4,
            "unknown cited paper": 5,
            "unknown citing paper": 6,
            "unknown citing and cited paper": 7,
        }.items()
    }


def test_ids_are_the_same_as_numbers_and_as_texts_in_every_pair_of_formats(accepted):
    papers = b"".join(b'{"id": %d, "title": "t%d"}\n' % (each, each) for each in (1, 2))
    papers += b'{"id": "3", "title": "t3"}\n'
    pairs = {
        "c/a.csv": b"citing,cited\n1,2\n",
        "c/b.jsonl": b'{"citing": "2", "cited": 3}\n',
        "c/c.parquet": parquet(citing=[3.0], cited=[1.0]),  # as of a table with gaps
    }
    report = accepted({"p.jsonl": papers, **pairs})["citations"]
    assert (report["rows"], report["kept"], report["dropped"]) == (3, 3, {})


@pytest.mark.parametrize("name", PAPERS)
def test_an_empty_file_in_a_folder_of_papers_is_known(tmp_path, name):
    (tmp_path / name).write_bytes(PAPERS[name])
    nothing = {"id": pa.array([], pa.string()), "title": pa.array([], pa.string())}
    empty = tmp_path / f"0{name}"
    empty.write_bytes(parquet(**nothing) if name == "p.parquet" else b"\n\n")
    papers = PaperFile(tmp_path)
    assert len(papers) == 3
    assert f"{empty} is empty: it has no row." in papers.notes


@pytest.mark.parametrize("name", ["c.csv", "c.jsonl", "c.parquet"])
def test_an_empty_file_in_a_folder_of_citations_is_named(accepted, name):
    nothing = {"citing": pa.array([], pa.string()), "cited": pa.array([], pa.string())}
    empty = parquet(**nothing) if name == "c.parquet" else b""
    ending = name[1:]
    sources = {**PLAIN, f"c/0{ending}": empty, f"c/1{ending}": CITATIONS[name]}
    report = accepted(sources)["citations"]
    assert f"c/0{ending} is empty: it has no row." in report["notes"]
    assert report["kept"] == 2


def test_a_header_alone_and_several_empty_files_are_named(accepted):
    several = {f"p/{number}.jsonl": b"" for number in range(5)}
    report = accepted(
        {**several, "p/whole.jsonl": PAPERS["p.jsonl"], "c/0.csv": b"citing,cited\n"}
        | {"c/1.csv": CITATIONS["c.csv"]}
    )
    said = "p/0.jsonl, p/1.jsonl, p/2.jsonl and 2 more are empty: they have no row."
    assert said in report["papers"]["notes"]
    assert "c/0.csv is empty: it has no row." in report["citations"]["notes"]


@pytest.mark.parametrize("name", ["c.csv", "c.json"])
def test_empty_citations_alone_are_named(refused, name):
    message = refused({**PLAIN, name: b""})
    assert "Of 0 citations 0 can be used." in message
    assert f"{name} is empty: it has no row." in message


def test_columns_by_number_do_not_count_a_header(accepted):
    words = ("--map", "citing=2", "--map", "cited=3")
    content = b",from_x,to_y\n0,a,b\n1,b,c\n"
    report = accepted({**PLAIN, "c.csv": content}, *words)["citations"]
    assert (report["rows"], report["kept"], report["dropped"]) == (2, 2, {})
    assert report["read"] == ['c.csv: from_x cites to_y, so "One" (a) cites "Two" (b).']


def test_columns_by_number_of_a_file_without_a_header_and_of_json(accepted):
    words = ("--map", "citing=1", "--map", "cited=2")
    sources = {"c/0.csv": b"a,b\nb,c\n", "c/1.jsonl": b'{"x": "c", "y": "a"}\n'}
    report = accepted({**PLAIN, **sources}, *words)["citations"]
    assert (report["rows"], report["kept"], report["dropped"]) == (3, 3, {})
    assert "0.csv: column 1 cites column 2; 1.jsonl: x cites y" in report["read"][0]


LONG = b"x" * 5000


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.jsonl", b'{"id": "%s", "title": "t"}' % LONG, "p.jsonl:1: `paper_id` is a text of 5,0"),
        ("c.csv", b"citing,cited\na,b\na,%s\n" % LONG, "c.csv:3: `cited` is a text of 5,000 chara"),
        ("c.csv", b'citing,cited\na,b\n"%s",b\n' % LONG, "c.csv:3: `citing` is a text of 5,000 ch"),
        ("c.jsonl", b'{"citing": "a", "cited": "%s"}' % LONG, "c.jsonl:1: `cited` is a text of 5"),
    ],
)
def test_what_is_too_long_to_be_an_id_is_refused_without_being_printed(
    refused, name, content, said
):
    message = refused({**(PLAIN if name[0] == "c" else {}), name: content})
    assert said in message
    assert "expected a paper id of at most 4,096. 1 of" in message
    assert len(message) < 500


def test_the_rows_beside_an_id_that_is_too_long_are_read(accepted):
    content = b"citing,cited\na,b\na,%s\nb,c\n" % LONG
    report = accepted({**PLAIN, "c.csv": content}, "--max-bad-rows", "1")["citations"]
    assert (report["rows"], report["kept"]) == (3, 2)
    assert report["malformed"]["cited is too long"] == {"count": 1, "examples": ["c.csv:3"]}


@pytest.mark.parametrize(
    ("option", "way"),
    [
        ("--papers", "itself"),
        ("--papers", "by a link"),
        ("--citations", "itself"),
        ("--citations", "in a folder"),
    ],
)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, capsys, option, way):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "p.jsonl").write_bytes(PAPERS["p.jsonl"])
    place = tmp_path / "in" / "more"
    place.mkdir()
    os.mkfifo(place / "pipe.csv")
    (place / "whole.csv").write_bytes(
        PAPERS["p.csv"] if option == "--papers" else CITATIONS["c.csv"]
    )
    (place.parent / "link.csv").symlink_to("more/pipe.csv")
    given = {"itself": place / "pipe.csv", "by a link": folder / "link.csv", "in a folder": place}
    named = {"itself": "pipe.csv", "by a link": "link.csv", "in a folder": "pipe.csv"}[way]
    papers = ["--papers", str(folder / "p.jsonl")] if option == "--citations" else []
    words = ["prepare", *papers, option, str(given[way]), "--to", str(tmp_path / "corpus")]
    assert main([*words, "--quiet"]) == 2
    message = capsys.readouterr().err
    assert f"{named}: is a pipe or a device, which can be read only once" in message
    assert "write what it gives to a file" in message
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_links_to_files_and_folders_are_followed_and_stay_links(accepted, tmp_path):
    real = tmp_path / "in" / "elsewhere"
    real.mkdir(parents=True)
    (real / "x.jsonl").write_bytes(PAPERS["p.jsonl"])
    (real / "y.csv").write_bytes(CITATIONS["c.csv"])
    (tmp_path / "in" / "p").mkdir()
    (tmp_path / "in" / "p" / "x.jsonl").symlink_to("../elsewhere/x.jsonl")
    (tmp_path / "in" / "p" / "up").symlink_to("..")  # round and round
    (tmp_path / "in" / "c").symlink_to("elsewhere/y.csv")
    os.rename(tmp_path / "in" / "c", tmp_path / "in" / "c.csv")
    papers, citations = str(tmp_path / "in" / "p"), str(tmp_path / "in" / "c.csv")
    report = accepted({}, "--papers", papers, "--citations", citations)
    assert report["papers"]["kept"] == 3
    assert report["citations"]["kept"] == 2
    assert (tmp_path / "in" / "c.csv").is_symlink()


def test_a_link_to_nothing_is_named(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(PAPERS["p.jsonl"])
    (folder / "b.jsonl").symlink_to("gone.jsonl")
    for given, said in ((folder, "is a link to nothing"), (folder / "b.jsonl", "there is no such")):
        words = ["prepare", "--papers", str(given), "--to", str(tmp_path / "corpus"), "--quiet"]
        assert main(words) == 2
        assert f"b.jsonl: {said}" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_hidden_files_of_a_folder_are_not_read(accepted):
    sources = {"p/a.jsonl": PAPERS["p.jsonl"], "p/._a.jsonl": b"\0\5\x16\7 of macOS"}
    assert accepted(sources)["papers"]["rows"] == 3


def test_a_corpus_at_a_link_is_made_where_the_link_leads(tmp_path, capsys):
    source = tmp_path / "p.jsonl"
    (tmp_path / "disk").mkdir()
    (tmp_path / "corpus").symlink_to("disk/corpus")
    for content in (PAPERS["p.jsonl"], PAPERS["p.jsonl"].replace(b"Six", b"Ten")):
        source.write_bytes(content)
        words = ["prepare", "--papers", str(source), "--to", str(tmp_path / "corpus"), "--quiet"]
        assert main(words) == 0
        assert (tmp_path / "corpus").is_symlink()
        assert [path.name for path in (tmp_path / "disk").iterdir()] == ["corpus"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "disk", "p.jsonl"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("path", ["C:\\data\\papers.jsonl"])
@pytest.mark.skipif(os.sep == "\\", reason="these are paths of this machine")
def test_a_path_of_windows_is_told_as_one(tmp_path, capsys, path):
    assert main(["prepare", "--papers", path, "--to", str(tmp_path / "corpus"), "--quiet"]) == 2
    said = f"{path}: there is no such file or folder; write / between folders, not \\ (papers)."
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_ids_and_names_with_a_backslash_are_as_they_stand(accepted):
    ids = [f"C:\\x\\{number}" for number in range(3)]
    papers = "".join(json.dumps({"id": each, "title": f"t{each}"}) + "\n" for each in ids)
    pairs = f"citing,cited\n{ids[0]},{ids[1]}\n{ids[1]},{ids[2]}\n"
    report = accepted({"p\\q.jsonl": papers.encode(), "c.csv": pairs.encode()})
    assert (report["papers"]["kept"], report["citations"]["kept"]) == (3, 2)


@pytest.mark.parametrize(
    ("ending", "compressed"),
    [(".jsonl", ".gz"), (".csv", ".zst"), (".bib", ".gz"), (".ris", ".zst"), (".nbib", ".gz")],
)
def test_blank_lines_without_end_are_refused_before_they_are_read(
    refused, monkeypatch, ending, compressed
):
    import zstandard

    monkeypatch.setattr(files, "MAX_BLANK", 1000)
    head = PAPERS.get(f"p{ending}", b"PMID- 7\nTI  - One\n")
    press = gzip.compress if compressed == ".gz" else zstandard.compress
    name = f"p{ending}{compressed}"
    message = refused({name: press(head + b"\n" * 5000 + b"\xff\n")})
    line = head.count(b"\n") + 1
    assert f"{name}:{line}: more than 1,000 blank lines begin here." in message


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv"])
def test_a_large_zst_of_nothing_takes_no_memory(tmp_path, ending):
    import zstandard

    path = tmp_path / f"nothing{ending}.zst"
    path.write_bytes(zstandard.compress(b" " * (100 << 20)))
    assert path.stat().st_size < 20_000
    assert peak_while(read_table, path) < 60


def test_a_parquet_file_with_bytes_changed_or_cut_is_read_or_refused_and_never_a_crash(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "p.parquet"
    whole = parquet(id=["a", "b"] * 4, title=["One", "Two"] * 4, day=[None, "x"] * 4)
    refused = 0
    for turn in range(300):
        data = bytearray(whole)
        for place in random.integers(0, len(data), random.integers(1, 4)):
            data[place] = random.integers(0, 256)
        path.write_bytes(data if turn % 5 else data[: random.integers(1, len(data))])
        try:
            list(PaperFile(path, max_bad_rows=9))
        except UserError:
            refused += 1
    assert 0 < refused <= 300


MEASURED = """
import resource, sys
from sciembed_train.cli import main
code = main(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000)
sys.exit(code)
"""


def measured(*words):
    """Exit code, peak of memory in MB, seconds and message of a command in a process of its own."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, words), "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, int(done.stdout), time.monotonic() - began, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "byte", "code", "said"),
    [
        ("p.jsonl.gz", b"\0", 2, "NUL byte at position 1"),
        ("p.jsonl.gz", b"\n", 2, "more than 4,194,304 blank lines begin here"),
        ("p.csv.zst", b"\n", 2, "more than 4,194,304 blank lines begin here"),
        ("p.json.zst", b"\n", 2, "p.json.zst: empty"),
        ("p.xml.zst", b"\n", 2, "p.xml.zst: empty"),
        ("p.jsonl.zst", b" ", 2, "p.jsonl.zst: empty"),
    ],
)
def test_a_gigabyte_of_nothing_is_refused_in_seconds_and_little_memory(
    tmp_path, name, byte, code, said
):
    import zstandard

    path = tmp_path / name
    with path.open("wb") as raw:
        if name.endswith(".gz"):
            file = gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1)
        else:
            file = zstandard.ZstdCompressor().stream_writer(raw)
        with file:
            for _ in range(1024):
                file.write(byte * (1 << 20))
    found, peak, seconds, message = measured(
        "prepare", "--papers", path, "--to", tmp_path / "corpus"
    )
    assert (found, said in message) == (code, True)
    assert peak < 500  # MB; the libraries take 130
    assert seconds < 60  # 2 to 15 were measured
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["p.jsonl", "p.json", "p.csv"])
def test_a_title_of_100_megabytes_is_prepared_in_bounded_memory(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(PAPERS[name].replace(b"Two", b"word " * (20 << 20)))
    code, peak, seconds, _ = measured("prepare", "--papers", path, "--to", tmp_path / "corpus")
    assert code == 0
    assert peak < 2000  # MB; 1,000 to 1,200 were measured
    assert seconds < 120  # 5 to 8 were measured


@pytest.mark.slow
@pytest.mark.parametrize("name", ["c.csv", "c.jsonl"])
def test_an_id_of_100_megabytes_is_refused_without_being_printed(tmp_path, name):
    (tmp_path / "p.jsonl").write_bytes(PAPERS["p.jsonl"])
    last = CITATIONS[name].rindex(b"c")
    path = tmp_path / name
    path.write_bytes(CITATIONS[name][:last] + b"x" * (100 << 20) + CITATIONS[name][last:])
    sources = ("--papers", tmp_path / "p.jsonl", "--citations", path)
    code, peak, seconds, message = measured("prepare", *sources, "--to", tmp_path / "corpus")
    assert code == 2
    assert "`cited` is a text of 104,857,601 characters" in message
    assert len(message) < 500
    assert peak < 2000  # MB; 1,200 were measured
    assert seconds < 120  # 6 were measured
    assert not (tmp_path / "corpus").exists()


# The libraries are imported once; each process that is killed is a fork of that one.
KILLED = """
import os, signal, sys, time
import duckdb, numpy, pyarrow.parquet, pyarrow.compute
import sciembed_train.commands.prepare
from sciembed_train.cli import main

def begin(words):
    child = os.fork()
    if child == 0:
        os._exit(main(words))
    return child

for line in sys.stdin:
    seconds, *words = line.rstrip("\\n").split("\\t")
    began = time.monotonic()
    child = begin(words)
    if float(seconds):
        time.sleep(float(seconds))
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(code, time.monotonic() - began, flush=True)
"""


@pytest.mark.slow
def test_a_prepare_killed_at_any_moment_leaves_the_old_corpus_or_the_new_one(tmp_path):
    source, to = tmp_path / "in", tmp_path / "out" / "corpus"
    source.mkdir()
    write_paper_files(source, n=3000)
    before = contents(source)
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None

    def prepare(seed, seconds=0.0):
        words = ["prepare", "--papers", source / "papers.jsonl", "--citations"]
        words += [source / "citations.csv", "--to", to, "--quiet", "--memory", "1GB"]
        words += ["--seed", seed]
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("\t".join(map(str, [seconds, *words])) + "\n")
        child.stdin.flush()
        code, took = child.stdout.readline().split()
        return int(code), float(took)

    def check(*seeds):
        """A corpus at ``to`` is whole and was made with one of these seeds."""
        assert contents(source) == before
        if to.exists():
            info = json.loads((to / "corpus.json").read_text())
            assert info["identity"]["seed"] in seeds
            assert main(["prepare", "--verify", "--to", str(to)]) == 0
        return to.exists()

    try:
        code, whole = prepare(0)
        assert code == 0
        random = np.random.default_rng(0)
        killed, partial = 0, 0
        for earlier in (False, True):
            for share in (random.random(8) + np.arange(8)) / 8:
                if to.parent.exists():  # it may have been killed before it made this
                    shutil.rmtree(to.parent)
                if earlier:
                    assert prepare(1)[0] == 0
                code, _ = prepare(2, share * whole)
                killed += code == -9
                names = {path.name for path in to.parent.iterdir()} if to.parent.exists() else set()
                partial += any(name.startswith(".corpus.partial-") for name in names)
                assert all(name.startswith(".corpus.") for name in names - {"corpus"})
                assert check(1, 2) or not earlier or any(".old-" in name for name in names)
        assert killed > 4
        assert partial > 4
        assert prepare(3)[0] == 0
        assert check(3)
        assert [path.name for path in to.parent.iterdir()] == ["corpus"]
    finally:
        child.stdin.close()
        child.wait()
        child.stdout.close()
