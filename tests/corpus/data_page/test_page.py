"""The page of a corpus: what it says, that it needs nothing, and when it is written."""

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from sciembed_train.commands import prepare as command
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.data_page.page import NAME, PLACES, page
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.checksums import damaged_files
from sciembed_train.corpus.store.corpus_folder import Corpus
from tests.helpers.paper_files import paper_settings, write_paper_files
from tests.helpers.task_files import EIGHT, write_tasks

EVIL = '<script src="//x/y.js">alert("1")</script>'


class Parts(HTMLParser):
    """Elements, their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def made(tmp_path_factory, tiny_bert):
    folder = tmp_path_factory.mktemp("page")
    write_paper_files(folder)
    return prepare(paper_settings(folder, tokenizer=tiny_bert))


def test_the_page_tells_what_was_read_and_what_it_holds(made):
    text = (made.folder / NAME).read_text()
    told = Parts(text).text
    counts = made.info["counts"]
    for expected in (
        f"Corpus of 120 papers, {counts['citations']} citations",
        "papers.jsonl: rows with a column for each field",
        "citations.csv: column 1 cites column 2, so ",
        *(source["sha256"][:12] for source in made.info["sources"]),
        f"triplets{counts['triplets']['train']}{counts['triplets']['dev']}",
        "Tokens of title and abstract by",
        "One citation in words",
    ):
        assert expected in told
    charts = re.findall(r'<svg [^>]*aria-label="([^"]*)"', text)
    assert [name.partition(" by ")[0] for name in charts] == [
        *("Words of an abstract", "Tokens of title and abstract"),
        *("References of a paper", "Citations of a paper", "Year"),
    ]
    assert text.count("<rect") > 40


def test_the_page_has_places_of_everything_left_out(made):
    told = Parts((made.folder / NAME).read_text()).text
    report = json.loads((made.folder / "report.json").read_text())
    seen = 0
    for name, part in report.items():
        for reason, dropped in part.get("dropped", {}).items():
            _, _, after = told.partition(f"rows of {name}: {reason}")
            assert after, reason
            for place in dropped["examples"][:PLACES]:
                assert place in after
                seen += 1
    assert seen > 10
    queries = made.info["query_papers"]["triplets"]
    assert f"{queries['queries']} papers are queries of triplets" in told
    for reason, others in queries["others"].items():
        assert f"{others['count']} are not: {reason}." in told
        assert all(example in told for example in others["examples"])


def test_malformed_rows_and_papers_of_one_text_have_their_places(tmp_path):
    rows = [{"paper_id": f"p{i}", "title": f"A title of {i}"} for i in range(8)]
    rows += [{"paper_id": f"q{i}", "title": f"a TITLE, of {i}"} for i in range(PLACES + 1)]
    lines = [json.dumps(row) for row in rows]
    (tmp_path / "p.jsonl").write_text("\n".join(["{", *lines, ""]))
    settings = PrepareSettings(papers=tmp_path / "p.jsonl", to=tmp_path / "c", max_bad_rows=1)
    told = Parts((prepare(settings).folder / NAME).read_text()).text
    told = told[: told.index("The whole account")]
    first, second = (
        told.index(line)
        for line in (
            f"{PLACES + 1} rows of papers: the text of another id",
            "1 malformed rows of papers: not JSON",
        )
    )
    assert first < second
    assert all(f"q{i} is p{i}" in told[first:second] for i in range(PLACES))
    assert f"q{PLACES} is p{PLACES}" not in told
    assert f"{tmp_path / 'p.jsonl'}:1" in told[second:]


def test_no_text_of_a_corpus_becomes_a_tag(tmp_path):
    rows = [{"paper_id": f"{EVIL}{i}", "title": f"{EVIL} {i}", "abstract": EVIL} for i in range(40)]
    rows.append({"paper_id": EVIL, "title": "", "abstract": ""})
    (tmp_path / "p<b>.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [{"citing": f"{EVIL}{i}", "cited": f"{EVIL}{i + 1}"} for i in range(39)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    corpus = prepare(
        PrepareSettings(
            papers=tmp_path / "p<b>.jsonl", citations=tmp_path / "c.jsonl", to=tmp_path / "corpus"
        )
    )
    found = Parts((corpus.folder / NAME).read_text())
    assert not {"script", "b>", "img", "link", "iframe"} & set(found.tags)
    assert not {"src", "href", "srcset"} & {name for name, _ in found.attributes}
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in found.attributes
    assert EVIL in found.text


def test_the_same_input_has_the_same_page(made, tmp_path, tiny_bert):
    write_paper_files(tmp_path)
    other = prepare(replace(paper_settings(tmp_path, tokenizer=tiny_bert), threads=2))
    here, there = ((c.folder / NAME).read_text() for c in (made, other))
    assert here.replace(str(made.folder.parent), "") == there.replace(str(tmp_path), "")


def test_corpora_of_other_kinds_have_their_page(tmp_path):
    tasks = write_tasks(tmp_path / "given", dict.fromkeys(EIGHT, 30))
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": "words and more " * 40}) + "\n")
    documents = prepare(PrepareSettings(fulltexts=tmp_path / "texts.jsonl", to=tmp_path / "d"))
    assert "Corpus of 1 documents" in (documents.folder / NAME).read_text()
    found = prepare(PrepareSettings(tasks=tasks, to=tmp_path / "t"))
    told = Parts((found.folder / NAME).read_text()).text
    for name in EIGHT:
        assert f"examples of task {name}" in told


def test_tokens_that_are_added_come_onto_the_page_and_nothing_else_changes_it(tmp_path, tiny_bert):
    write_paper_files(tmp_path)
    settings = paper_settings(tmp_path)
    path = prepare(settings).folder / NAME
    assert "Tokens of title" not in path.read_text()
    stamp = path.stat().st_mtime_ns
    prepare(settings)
    assert path.stat().st_mtime_ns == stamp
    prepare(replace(settings, tokenizer=tiny_bert))
    assert "Tokens of title" in path.read_text()
    assert damaged_files(path.parent)[1] == []
    stamp = path.stat().st_mtime_ns
    prepare(replace(settings, tokenizer=tiny_bert))
    assert path.stat().st_mtime_ns == stamp


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
import sciembed_train.corpus.data_page.page as module
from sciembed_train.corpus.build import prepare
from tests.helpers.paper_files import paper_settings
module.add_checksum = lambda path: os.kill(os.getpid(), signal.SIGKILL)
prepare(replace(paper_settings(Path(sys.argv[1])), tokenizer=sys.argv[2]))
"""


@pytest.mark.slow
def test_a_page_that_was_being_replaced_by_a_killed_process_is_written_again(tmp_path, tiny_bert):
    write_paper_files(tmp_path)
    settings = paper_settings(tmp_path)
    corpus = prepare(settings).folder
    words = [sys.executable, "-c", KILLED, str(tmp_path), str(tiny_bert)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert damaged_files(corpus)[1] != []
    prepare(replace(settings, tokenizer=tiny_bert))
    assert damaged_files(corpus)[1] == []
    assert "Tokens of title" in (corpus / NAME).read_text()


def test_a_page_that_fails_leaves_no_corpus(tmp_path, monkeypatch):
    write_paper_files(tmp_path)
    monkeypatch.setattr("sciembed_train.corpus.data_page.page.stored_papers", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(paper_settings(tmp_path))
    assert {p.name for p in tmp_path.iterdir()} == {"papers.jsonl", "citations.csv"}


def test_the_command_names_the_page_last(tmp_path, capsys):
    write_paper_files(tmp_path)
    words = ["--papers", tmp_path / "papers.jsonl", "--citations", tmp_path / "citations.csv"]
    assert command.main([*map(str, words), "--to", str(tmp_path / "c")]) == 0
    folder = tmp_path / "c"
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"in full: {folder / 'report.html'} and {folder / 'report.json'}"
    assert page(Corpus.open(folder)) == (folder / NAME).read_text()
