import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sciembed_train.cli import main as train
from sciembed_train.corpus.build import cached_corpus, prepare
from sciembed_train.corpus.mining.triplet_mining import TripletMining
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.corpus_folder import SPLITS, Corpus
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer


def write_collection(folder, n=120, seed=0):
    """Papers and citations in files, some without text, some rows of every ordinary kind."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    papers = [
        {
            "paper_id": f"p{i}" if i % 2 else i,
            "title": f"word{i % 200} word3" if i % 10 else "",
            "abstract": [None, "word1 word2", ["word4 word5", "word6"]][i % 3] if i % 10 else None,
            "year": 1990 + i % 30,
        }
        for i in range(n)
    ]
    names = [str(p["paper_id"]) for p in papers]
    pairs = [(names[a], names[b]) for a, b in rng.integers(0, n, (n * 5, 2)) if a != b]
    (folder / "papers.jsonl").write_text("".join(json.dumps(p) + "\n" for p in papers))
    lines = [f"{a},{b}" for a, b in pairs]
    lines += [lines[0], f"{names[0]},{names[0]}", f"unknown,{names[0]}", f"{names[0]},unknown"]
    (folder / "citations.csv").write_text("\n".join(lines) + "\n")
    return papers, sorted(set(pairs))


def settings(folder, **values):
    return PrepareSettings(
        papers=folder / "papers.jsonl",
        citations=folder / "citations.csv",
        to=folder / "corpus",
        memory="1GB",
        threads=1,
        **values,
    )


def run(*arguments):
    return train(["prepare", *map(str, arguments)])


def by_name(corpus, split):
    ids = corpus.paper_ids()
    return sorted([ids[i] for i in row] for row in corpus.triplets(split))


def test_the_command_makes_a_corpus_and_explains_every_dropped_row(tmp_path, tiny_bert, capsys):
    papers, pairs = write_collection(tmp_path)
    arguments = ["--papers", tmp_path / "papers.jsonl", "--citations", tmp_path / "citations.csv"]
    arguments += ["--to", tmp_path / "corpus", "--tokenizer", tiny_bert, "--memory", "1GB"]
    assert run(*arguments, "--csv", tmp_path / "csv") == 0
    out, err = capsys.readouterr()
    assert "120 papers (12 without a text)" in out
    assert "tokens: 120 papers" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "citations.csv",
        "corpus",
        "csv",
        "papers.jsonl",
    ]
    corpus = Corpus.open(tmp_path / "corpus")
    ids = corpus.paper_ids()
    assert ids == sorted(str(p["paper_id"]) for p in papers)
    given = {str(p["paper_id"]): p for p in papers}
    for paper in corpus.papers():
        source = given[paper["paper_id"]]
        assert paper["title"] == source["title"]
        assert paper["abstract"] == (source["abstract"] or "")
    assert sorted((ids[a], ids[b]) for a, b in corpus.citations()) == pairs
    report = json.loads((corpus.folder / "report.json").read_text())
    dropped = {reason: d["count"] for reason, d in report["citations"]["dropped"].items()}
    repeated = report["citations"]["rows"] - len(pairs) - 3
    assert dropped == {
        "given before": repeated,
        "a paper citing itself": 1,
        "unknown citing paper": 1,
        "unknown cited paper": 1,
    }
    rows = report["citations"]["rows"]
    lines = {reason: d["examples"] for reason, d in report["citations"]["dropped"].items()}
    assert lines["unknown citing paper"] == [f"{tmp_path / 'citations.csv'}:{rows - 1}"]
    assert report["citations"]["kept"] + sum(dropped.values()) == rows
    assert report["papers"]["dropped"]["no title and no abstract: takes part in nothing"][
        "examples"
    ][:2] == [f"{tmp_path / 'papers.jsonl'}:{line}" for line in (1, 11)]
    for split in SPLITS:
        queries = set(corpus.queries(split).tolist())
        assert set(corpus.triplets(split)[:, 0].tolist()) <= queries
        assert len(corpus.hard(split)) == len(corpus.triplets(split))
        head, *lines = (tmp_path / "csv" / f"{split}_triples.csv").read_text().splitlines()
        assert head == "query_paper_id,positive_id,negative_id"
        assert sorted(line.split(",") for line in lines) == by_name(corpus, split)
    assert len(corpus.triplets("train")) > 300
    import pyarrow.parquet as pq

    table = pq.read_table(corpus.folder / "triplets" / "train.parquet")
    assert table.column_names == ["query", "positive", "negative", "hard"]
    assert table.column("hard").to_pylist() == corpus.hard("train").tolist()
    store = corpus.tokens(TextTokenizer.load(tiny_bert).key(InputFormat()))
    without = [i for i, paper_id in enumerate(ids) if not given[paper_id]["title"]]
    assert np.flatnonzero(store.lengths == 0).tolist() == without


def test_the_order_of_the_files_changes_nothing(tmp_path, tiny_bert):
    write_collection(tmp_path / "a")
    one = prepare(settings(tmp_path / "a", tokenizer=tiny_bert))
    (tmp_path / "b").mkdir()
    rng = np.random.default_rng(5)
    for name in ("papers.jsonl", "citations.csv"):
        lines = (tmp_path / "a" / name).read_text().splitlines()
        (tmp_path / "b" / name).write_text("".join(f"{x}\n" for x in rng.permutation(lines)))
    two = prepare(replace(settings(tmp_path / "b", tokenizer=tiny_bert), threads=3))
    for split in SPLITS:
        assert np.array_equal(one.triplets(split), two.triplets(split))
        assert np.array_equal(one.queries(split), two.queries(split))
    assert list(one.papers()) == list(two.papers())
    key = next(iter(one.info["token_stores"]))
    ids = [c.tokens(key).rows(np.arange(120), 64)[0] for c in (one, two)]
    assert np.array_equal(*ids)


def test_the_split_of_a_paper_does_not_depend_on_the_others(tmp_path):
    write_collection(tmp_path)
    values = {"dev_share": 0.2, "test_share": 0.3}
    whole = prepare(settings(tmp_path, **values))
    names = whole.paper_ids()
    held = {s: {names[q] for q in whole.queries(s)} for s in SPLITS}
    assert 10 < len(held["dev"]) < 45
    assert 15 < len(held["test"]) < 60
    lines = (tmp_path / "papers.jsonl").read_text().splitlines()
    (tmp_path / "papers.jsonl").write_text("\n".join(lines[:60]))
    part = prepare(settings(tmp_path, **values))
    names = part.paper_ids()
    for split in SPLITS:
        assert {names[q] for q in part.queries(split)} <= held[split]


def test_held_out_ids_may_be_given(tmp_path):
    write_collection(tmp_path)
    (tmp_path / "dev.txt").write_text("p1\r\np3\nnobody\n\n")
    corpus = prepare(settings(tmp_path, dev_ids=tmp_path / "dev.txt", test_share=0.0))
    names = corpus.paper_ids()
    assert [names[q] for q in corpus.queries("dev")] == ["p1", "p3"]
    assert len(corpus.queries("test")) == 0
    assert corpus.triplets("test").shape == (0, 3)
    report = json.loads((corpus.folder / "report.json").read_text())
    assert report["triplets"]["dev ids that name no paper"]["examples"] == ["nobody"]
    (tmp_path / "test.txt").write_text("p3\n")
    with pytest.raises(UserError, match="1 ids are both dev and test queries, the first is 'p3'"):
        prepare(settings(tmp_path, dev_ids=tmp_path / "dev.txt", test_ids=tmp_path / "test.txt"))


def test_a_list_of_ids_that_names_nobody_is_refused(tmp_path):
    write_collection(tmp_path)
    (tmp_path / "dev.txt").write_text("nobody\nneither\n")
    with pytest.raises(UserError, match=r"dev\.txt: not one of its 2 ids is the id of a paper"):
        prepare(settings(tmp_path, dev_ids=tmp_path / "dev.txt"))


def test_a_corpus_without_any_abstract_is_said(tmp_path, capsys):
    papers, _ = write_collection(tmp_path)
    lines = [json.dumps({"paper_id": p["paper_id"], "title": p["title"]}) for p in papers]
    (tmp_path / "papers.jsonl").write_text("\n".join(lines))
    assert run("--papers", tmp_path / "papers.jsonl", "--to", tmp_path / "titles") == 0
    assert "not one paper has an abstract" in capsys.readouterr().out


def test_a_second_tokenizer_is_added_without_redoing_the_rest(tmp_path, tiny_bert, tiny_roberta):
    write_collection(tmp_path)
    first = prepare(settings(tmp_path))
    assert first.info["token_stores"] == {}
    before = {p: p.stat().st_mtime_ns for p in first.folder.rglob("*.npy")}
    prepare(settings(tmp_path, tokenizer=tiny_bert))
    last = prepare(
        settings(tmp_path, tokenizer=tiny_roberta, input_format=InputFormat(separator="space"))
    )
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(last.info["token_stores"]) == 2
    for key in last.info["token_stores"]:
        assert len(last.tokens(key)) == 120
    # Other settings make another corpus in its place.
    prepare(settings(tmp_path, seed=1))
    assert {p: p.stat().st_mtime_ns for p in before} != before
    assert Corpus.open(first.folder).info["token_stores"] == {}


def test_papers_alone_make_a_corpus_without_triplets(tmp_path, tiny_bert):
    write_collection(tmp_path)
    corpus = prepare(replace(settings(tmp_path, tokenizer=tiny_bert), citations=None))
    assert corpus.info["counts"]["papers_with_text"] == 108
    with pytest.raises(UserError, match="Prepare it from papers and citations"):
        corpus.triplets("train")


def test_triplets_given_ready_are_taken_as_they_are(tmp_path):
    write_collection(tmp_path)
    (tmp_path / "t.csv").write_text(
        "query_paper_id,positive_id,negative_id\np1,p3,p5\np1,p3,p5\np1,p3,nobody\np1,0,p3\n"
        "p1,p1,p3\np3,p1,p7\n"
    )
    made = replace(settings(tmp_path, dev_share=0.0, test_share=0.0), citations=None)
    corpus = prepare(replace(made, pairs=tmp_path / "t.csv"))
    assert by_name(corpus, "train") == [["p1", "p3", "p5"], ["p3", "p1", "p7"]]
    report = json.loads((corpus.folder / "report.json").read_text())
    assert {k: d["count"] for k, d in report["pairs"]["dropped"].items()} == {
        "given before": 1,
        "unknown negative": 1,
        "positive without a text": 1,
        "a paper twice in one triplet": 1,
    }


def test_queries_without_two_hop_papers_are_an_option(tmp_path, capsys):
    (tmp_path / "papers.jsonl").write_text(
        "".join(json.dumps({"paper_id": i, "title": f"word{i}"}) + "\n" for i in range(9))
    )
    (tmp_path / "citations.csv").write_text("0,1\n0,2\n3,1\n")
    arguments = ["--papers", tmp_path / "papers.jsonl", "--citations", tmp_path / "citations.csv"]
    arguments += ["--to", tmp_path / "c", "--dev-share", 0, "--test-share", 0, "--quiet"]
    assert run(*arguments) == 2
    told = capsys.readouterr().err
    assert "3 of these have a text at both ends" in told
    assert "2 training queries have no hard negative" in told
    assert "--no-require-hard" in told
    assert not (tmp_path / "c").exists()
    assert run(*arguments, "--no-require-hard", "--json") == 0
    assert json.loads(capsys.readouterr().out)["triplets"] == {"train": 10, "dev": 0, "test": 0}


def test_nothing_to_mine_is_told_with_counts(tmp_path, capsys):
    write_collection(tmp_path)
    base = ["--papers", tmp_path / "papers.jsonl", "--to", tmp_path / "c", "--quiet"]
    (tmp_path / "other.csv").write_text("source,target\nx1,x2\nx3,p1\n")
    assert run(*base, "--citations", tmp_path / "other.csv") == 2
    told = capsys.readouterr().err
    assert "Of 120 papers 108 have a text. Of 3 citations 0 can be used" in told
    assert f"2: unknown citing and cited paper, the first at {tmp_path / 'other.csv'}:1" in told
    assert "see that both files name papers by the same ids" in told
    (tmp_path / "none.csv").write_text("citing,cited\n")
    assert run(*base, "--citations", tmp_path / "none.csv") == 2
    assert "Of 0 citations 0 can be used." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", r"papers\.jsonl:121: this is not JSON"),
        ('{"paper_id": "x", "title": "t", "abstract": 17}', "`abstract` is the number 17"),
        ('{"paper_id": "x"}', "there is no `title`; the fields are paper_id"),
        (
            '{"paper_id": "p1", "title": "again"}',
            r"papers\.jsonl:121: `paper_id` 'p1' was given before, at .*papers\.jsonl:2;",
        ),
    ],
)
def test_a_malformed_row_stops_the_command_unless_allowed_for(tmp_path, capsys, line, message):
    write_collection(tmp_path)
    with (tmp_path / "papers.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=message) as refused:
        prepare(settings(tmp_path))
    assert "1 of 121 rows is like this." in str(refused.value)
    assert "--max-bad-rows 1" in str(refused.value)
    assert not (tmp_path / "corpus").exists()
    corpus = prepare(settings(tmp_path, max_bad_rows=1))
    assert corpus.n_papers == 120
    malformed = json.loads((corpus.folder / "report.json").read_text())["papers"]["malformed"]
    assert [d["examples"] for d in malformed.values()] == [[f"{tmp_path / 'papers.jsonl'}:121"]]


def test_a_malformed_citation_is_told_with_its_line(tmp_path):
    write_collection(tmp_path)
    with (tmp_path / "citations.csv").open("a") as file:
        file.write("p1\n")
    rows = len((tmp_path / "citations.csv").read_text().splitlines())
    with pytest.raises(UserError, match=rf"citations\.csv:{rows}: this row has 1 column; expected"):
        prepare(settings(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokenizer", "none"], "No tokenizer could be loaded from none"),
        (["--memory", "much"], "memory is 'much'; expected a size such as 4GB"),
        (["--seed", "-1"], "seed must be 0 or more"),
        (["--dev-share", "1.5"], "dev_share must be 0 or more and below 1; got 1.5"),
        (["--dev-share", "0.5", "--test-share", "0.5"], "leave no paper for training"),
        (["--per-query", "0"], "per_query must be 1 to 100"),
        (["--hard", "9"], "hard must be 0 to per_query, here 5; got 9"),
        (["--papers", "nowhere.jsonl"], "nowhere.jsonl: there is no such file"),
        (["--dev-ids", "nowhere.txt"], "nowhere.txt: there is no such file"),
        (["--threads", "0"], "threads must be 1 or more"),
        (["--format", "specter"], "has no train.txt, val.txt or test.txt"),
        (["--format", "specter", "--papers", "."], "SPECTER's format is data.json and metadata"),
        (["--to", "papers.jsonl/c"], "papers.jsonl/c cannot be written"),
        (["--to", "."], "exists and is no corpus"),
    ],
)
def test_wrong_arguments_exit_with_2_and_one_message(
    tmp_path, monkeypatch, capsys, arguments, message
):
    write_collection(tmp_path)
    monkeypatch.chdir(tmp_path)
    base = ["--papers", "papers.jsonl", "--citations", "citations.csv", "--to", "c"]
    assert run(*base, *arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert sorted(p.name for p in tmp_path.iterdir()) == ["citations.csv", "papers.jsonl"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")
def test_an_unwritable_folder_is_told(tmp_path):
    write_collection(tmp_path)
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        prepare(settings(tmp_path))


def test_a_recipe_says_how(tmp_path, tiny_bert, capsys):
    write_collection(tmp_path)
    (tmp_path / "r.yaml").write_text(
        "data: {seed: 3, triplets: {per_query: 2, hard: 1}}\n"
        f"model: {{encoder: {{backbone: {tiny_bert}, input_format: {{separator: space}}}}}}\n"
    )
    arguments = ["--papers", tmp_path / "papers.jsonl", "--citations", tmp_path / "citations.csv"]
    arguments += ["-c", tmp_path / "r.yaml", "--to", tmp_path / "c", "--quiet", "--seed", 4]
    assert run(*arguments) == 0
    assert capsys.readouterr() == ("", "")
    corpus = Corpus.open(tmp_path / "c")
    assert corpus.info["settings"]["seed"] == 4
    assert corpus.info["settings"]["triplets"]["per_query"] == 2
    assert corpus.has_tokens(TextTokenizer.load(tiny_bert).key(InputFormat(separator="space")))


def test_cached_corpora_are_made_once_per_content_and_settings(tmp_path):
    write_collection(tmp_path)
    made = replace(settings(tmp_path), to=None)
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
    write_collection(tmp_path)
    corpus = prepare(settings(tmp_path))
    path = corpus.folder / "corpus.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 0'))
    with pytest.raises(UserError, match="version 0"):
        Corpus.open(corpus.folder)
    assert prepare(settings(tmp_path)).info["version"] == 1


def test_a_killed_prepare_leaves_no_half_corpus_and_the_next_one_works(tmp_path):
    write_collection(tmp_path, n=3000)
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
    prepare(settings(tmp_path))
    assert {p.name for p in tmp_path.iterdir()} == {"papers.jsonl", "citations.csv", "corpus"}
    assert (tmp_path / "corpus" / "corpus.json").stat().st_mtime >= started - 2


def test_the_source_files_are_never_changed(tmp_path):
    write_collection(tmp_path)
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.glob("*.*")}
    prepare(settings(tmp_path))
    assert {
        name: (Path(tmp_path / name).read_bytes(), (tmp_path / name).stat().st_mtime_ns)
        for name in before
    } == before
