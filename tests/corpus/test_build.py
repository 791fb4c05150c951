import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from sciembed_train.corpus.build import cached_corpus, prepare
from sciembed_train.corpus.mining.triplet_mining import TripletMining
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.store.token_kinds import TASK_TOKENS
from sciembed_train.corpus.tasks.task_types import TaskBuilding
from sciembed_train.errors import UserError
from sciembed_train.progress import Progress
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.paper_files import paper_settings, write_paper_files
from tests.helpers.task_files import EIGHT, write_lines, write_tasks


@pytest.fixture
def tasks(tmp_path):
    return write_tasks(tmp_path / "given", dict.fromkeys(EIGHT, 30))


def test_the_order_of_the_files_changes_nothing(tmp_path, tiny_bert):
    write_paper_files(tmp_path / "a")
    one = prepare(paper_settings(tmp_path / "a", tokenizer=tiny_bert))
    (tmp_path / "b").mkdir()
    rng = np.random.default_rng(5)
    for name in ("papers.jsonl", "citations.csv"):
        lines = (tmp_path / "a" / name).read_text().splitlines()
        (tmp_path / "b" / name).write_text("".join(f"{x}\n" for x in rng.permutation(lines)))
    two = prepare(replace(paper_settings(tmp_path / "b", tokenizer=tiny_bert), threads=3))
    for split in SPLITS:
        assert np.array_equal(one.triplets(split), two.triplets(split))
        assert np.array_equal(one.queries(split), two.queries(split))
    assert list(one.papers()) == list(two.papers())
    key = next(iter(one.info["token_stores"]))
    ids = [c.tokens(key).rows(np.arange(120), 64)[0] for c in (one, two)]
    assert np.array_equal(*ids)


def test_the_split_of_a_paper_does_not_depend_on_the_others(tmp_path):
    write_paper_files(tmp_path)
    values = {"dev_share": 0.2, "test_share": 0.3}
    whole = prepare(paper_settings(tmp_path, **values))
    names = whole.paper_ids()
    held = {s: {names[q] for q in whole.queries(s)} for s in SPLITS}
    assert 10 < len(held["dev"]) < 45
    assert 15 < len(held["test"]) < 60
    lines = (tmp_path / "papers.jsonl").read_text().splitlines()
    (tmp_path / "papers.jsonl").write_text("\n".join(lines[:60]))
    part = prepare(paper_settings(tmp_path, **values))
    names = part.paper_ids()
    for split in SPLITS:
        assert {names[q] for q in part.queries(split)} <= held[split]


def test_held_out_ids_may_be_given(tmp_path):
    write_paper_files(tmp_path)
    (tmp_path / "dev.txt").write_text("p1\r\np3\nnobody\n\n")
    corpus = prepare(paper_settings(tmp_path, dev_ids=tmp_path / "dev.txt", test_share=0.0))
    names = corpus.paper_ids()
    assert [names[q] for q in corpus.queries("dev")] == ["p1", "p3"]
    assert len(corpus.queries("test")) == 0
    assert corpus.triplets("test").shape == (0, 3)
    report = json.loads((corpus.folder / "report.json").read_text())
    assert report["triplets"]["dev ids that name no paper"]["examples"] == ["nobody"]
    (tmp_path / "test.txt").write_text("p3\n")
    with pytest.raises(UserError, match="1 ids are both dev and test queries, the first is 'p3'"):
        prepare(
            paper_settings(tmp_path, dev_ids=tmp_path / "dev.txt", test_ids=tmp_path / "test.txt")
        )


def test_a_list_of_ids_that_names_no_paper_is_refused(tmp_path):
    write_paper_files(tmp_path)
    (tmp_path / "dev.txt").write_text("nobody\nneither\n")
    with pytest.raises(UserError, match=r"dev\.txt: not one of its 2 ids is the id of a paper"):
        prepare(paper_settings(tmp_path, dev_ids=tmp_path / "dev.txt"))


def test_papers_alone_make_a_corpus_without_triplets(tmp_path, tiny_bert):
    write_paper_files(tmp_path)
    corpus = prepare(replace(paper_settings(tmp_path, tokenizer=tiny_bert), citations=None))
    assert corpus.info["counts"]["papers_with_text"] == 108
    with pytest.raises(UserError, match="Prepare it from papers and citations"):
        corpus.triplets("train")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")
def test_an_unwritable_folder_is_reported(tmp_path):
    write_paper_files(tmp_path)
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        prepare(paper_settings(tmp_path))


def test_cached_corpora_are_made_once_per_content_and_settings(tmp_path):
    write_paper_files(tmp_path)
    made = replace(paper_settings(tmp_path), to=None)
    first = cached_corpus(made, tmp_path / "cache")
    stamp = (first.folder / "corpus.json").stat().st_mtime_ns
    again = cached_corpus(replace(made, memory="2GB"), tmp_path / "cache")
    assert again.folder == first.folder
    assert (again.folder / "corpus.json").stat().st_mtime_ns == stamp
    other = cached_corpus(replace(made, triplets=TripletMining(hard=1)), tmp_path / "cache")
    assert other.folder != first.folder
    with (tmp_path / "citations.csv").open("a") as file:
        file.write("p1,p3\n")
    assert cached_corpus(made, tmp_path / "cache").folder not in (first.folder, other.folder)


def test_a_corpus_of_another_version_is_made_anew(tmp_path):
    write_paper_files(tmp_path)
    corpus = prepare(paper_settings(tmp_path))
    path = corpus.folder / "corpus.json"
    path.write_text(path.read_text().replace('"version": 3', '"version": 0'))
    with pytest.raises(UserError, match="version 0"):
        Corpus.open(corpus.folder)
    assert prepare(paper_settings(tmp_path)).info["version"] == 3


def test_a_killed_prepare_leaves_no_half_corpus_and_the_next_one_works(tmp_path):
    write_paper_files(tmp_path, n=3000)
    code = """
import sys, time
import sciembed_train.corpus.build as p
wait = p.save_info
p.save_info = lambda *a: (print("here", flush=True), time.sleep(60))
papers, citations, to = sys.argv[1:4]
p.prepare(p.PrepareSettings(papers=papers, citations=citations, to=to, memory="1GB"))
"""
    arguments = [tmp_path / "papers.jsonl", tmp_path / "citations.csv", tmp_path / "corpus"]
    child = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"here\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    left = {p.name for p in tmp_path.iterdir()} - {"papers.jsonl", "citations.csv"}
    assert len(left) == 1
    assert left.pop().startswith(".corpus.partial-")
    started = time.time()
    prepare(paper_settings(tmp_path))
    assert {p.name for p in tmp_path.iterdir()} == {"papers.jsonl", "citations.csv", "corpus"}
    assert (tmp_path / "corpus" / "corpus.json").stat().st_mtime >= started - 2


def test_the_source_files_are_never_changed(tmp_path):
    write_paper_files(tmp_path)
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.glob("*.*")}
    prepare(paper_settings(tmp_path))
    assert {
        name: ((tmp_path / name).read_bytes(), (tmp_path / name).stat().st_mtime_ns)
        for name in before
    } == before


def test_the_same_files_are_prepared_once_and_other_settings_anew(tasks, tmp_path):
    def made(**values):
        return prepare(PrepareSettings(tasks=tasks, to=tmp_path / "corpus", **values))

    before = made().info["identity"]
    stamp = (tmp_path / "corpus" / "tasks.json").stat().st_mtime_ns
    made()
    assert (tmp_path / "corpus" / "tasks.json").stat().st_mtime_ns == stamp
    other = made(task_building=TaskBuilding(negatives="last")).info["identity"]
    assert other != before
    assert made().info["identity"] == before
    rows = (tasks / "mesh.jsonl").read_text().splitlines()
    (tasks / "mesh.jsonl").write_text("\n".join(rows[:-1]))
    assert made().info["identity"] != before
    entries = json.loads((tasks / "tasks_config.json").read_text())
    entries[0]["sample_size"] = 3
    (tasks / "tasks_config.json").write_text(json.dumps(entries))
    assert made().info["counts"]["tasks"]["cite_pred"]["train"] == 3


def test_what_has_tasks_and_papers_holds_both(tasks, tiny_bert, tmp_path):
    papers = [{"paper_id": i, "title": f"word{i} word1", "abstract": "word2"} for i in range(40)]
    write_lines(tmp_path / "papers.jsonl", papers)
    write_lines(
        tmp_path / "citations.jsonl",
        [{"citing": i, "cited": j} for i in range(40) for j in (i + 1, i + 2) if j < 40],
    )
    settings = PrepareSettings(
        papers=tmp_path / "papers.jsonl",
        citations=tmp_path / "citations.jsonl",
        tasks=tasks,
        to=tmp_path / "corpus",
        tokenizer=tiny_bert,
    )
    corpus = prepare(settings)
    key = TextTokenizer.load(tiny_bert).key(InputFormat())
    assert corpus.n_papers == 40
    assert len(corpus.tokens(key)) == 40
    assert len(corpus.tokens(key, TASK_TOKENS)) == corpus.tasks().n_texts
    assert len(corpus.triplets("train"))


def test_the_cache_knows_tasks_by_their_files(tasks, tmp_path):
    one, two = (
        cached_corpus(PrepareSettings(tasks=place), tmp_path / "cache")
        for place in (tasks, tasks / "tasks_config.json")
    )
    assert one.folder == two.folder


def test_lists_of_ids_may_spell_them_otherwise(tmp_path):
    papers = [{"paper_id": f"10.1000/{i}", "title": f"Title of {i}"} for i in range(12)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in papers))
    (tmp_path / "dev.txt").write_text("https://doi.org/10.1000/3\n")
    settings = PrepareSettings(
        tmp_path / "p.jsonl", to=tmp_path / "c", dev_ids=tmp_path / "dev.txt", test_share=0.0
    )
    splits = np.load(prepare(settings).folder / "paper_splits.npy")
    ids = sorted(paper["paper_id"] for paper in papers)
    assert [ids[i] for i in np.flatnonzero(splits)] == ["10.1000/3"]


def test_a_corpus_made_for_a_run_says_once_how_files_were_read(tmp_path, capsys):
    (tmp_path / "p.csv").write_text("id,title\na,One\nb,Two\nc,Three\nd,Four\n")
    (tmp_path / "c.csv").write_text("to,from\nb,a\nc,b\nd,c\n")
    settings = PrepareSettings(
        tmp_path / "p.csv", citations=tmp_path / "c.csv", dev_share=0.0, test_share=0.0
    )
    for said in (1, 0):
        cached_corpus(settings, tmp_path / "cache", Progress())
        err = capsys.readouterr().err
        assert err.count('c.csv: from cites to, so "One" (a) cites "Two" (b).') == said
