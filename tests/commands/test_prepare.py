import json
import shutil

import numpy as np
import pytest

from sciembed_train.cli import main
from sciembed_train.corpus.store.corpus_files import SPLITS
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.summary import summary
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.paper_files import triplets_by_id, write_paper_files
from tests.helpers.small_disk import largest_file
from tests.helpers.task_files import EIGHT, write_tasks


def run(*arguments):
    return main(["prepare", *map(str, arguments)])


def test_the_command_makes_a_corpus_and_explains_every_dropped_row(tmp_path, tiny_bert, capsys):
    papers, pairs = write_paper_files(tmp_path)
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
        assert sorted(line.split(",") for line in lines) == triplets_by_id(corpus, split)
    assert len(corpus.triplets("train")) > 300
    import pyarrow.parquet as pq

    table = pq.read_table(corpus.folder / "triplets" / "train.parquet")
    assert table.column_names == ["query", "positive", "negative", "hard"]
    assert table.column("hard").to_pylist() == corpus.hard("train").tolist()
    store = corpus.tokens(TextTokenizer.load(tiny_bert).key(InputFormat()))
    without = [i for i, paper_id in enumerate(ids) if not given[paper_id]["title"]]
    assert np.flatnonzero(store.lengths == 0).tolist() == without


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokenizer", "none"], "none: there is no such folder, and it is no model of the hub"),
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
    write_paper_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    base = ["--papers", "papers.jsonl", "--citations", "citations.csv", "--to", "c"]
    assert run(*base, *arguments) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert sorted(p.name for p in tmp_path.iterdir()) == ["citations.csv", "papers.jsonl"]


def test_a_recipe_says_how(tmp_path, tiny_bert, capsys):
    write_paper_files(tmp_path)
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


@pytest.fixture
def tasks(tmp_path):
    return write_tasks(tmp_path / "given", dict.fromkeys(EIGHT, 30))


def test_tasks_alone_make_a_corpus(tasks, tiny_bert, tmp_path, capsys):
    to = tmp_path / "corpus"
    command = [
        "prepare",
        "--tasks",
        str(tasks),
        "--to",
        str(to),
        "--tokenizer",
        str(tiny_bert),
    ]
    assert main([*command, "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    corpus = Corpus.open(to)
    assert told["tasks"] == corpus.info["counts"]["tasks"]
    assert told["task_texts"] == corpus.tasks().n_texts
    assert (corpus.n_papers, corpus.n_documents, corpus.has_tasks) == (0, 0, True)
    assert sorted(p.name for p in to.iterdir()) == [
        *(
            "checksums.json",
            "corpus.json",
            "report.html",
            "report.json",
            "task_texts.parquet",
            "task_tokens",
            "tasks",
            "tasks.json",
        )
    ]
    sources = {(s["kind"], s["task"], s["name"]) for s in corpus.info["sources"]}
    assert sources == {("tasks", name, f"{name}.jsonl") for name in EIGHT}
    assert "task search: train" in summary(corpus)
    assert "tokens of tasks" in summary(corpus)


def test_options_of_the_command_stand_above_the_recipe(tasks, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {task_building: {negatives: last, per_query: 3}}\n")
    to = tmp_path / "corpus"
    words = ["prepare", "-c", str(recipe), "--tasks", str(tasks), "--to", str(to), "--quiet"]
    assert main([*words, "--task-triplets", "1", "--dev-in-train"]) == 0
    said = Corpus.open(to).info["settings"]["tasks"]
    assert {k: said[k] for k in ("per_query", "negatives", "dev_in_train")} == {
        "per_query": 1,
        "negatives": "last",
        "dev_in_train": True,
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "labels.txt").unlink(), "no label file labels.txt"),
        (lambda folder: (folder / "labels.txt").write_text("a\nb\n"), "none of the 2 labels of"),
        (lambda folder: (folder / "fos.jsonl").unlink(), "fos.jsonl: there is no such file"),
        (lambda folder: (folder / "fos.jsonl").write_text("{"), "fos.jsonl:1"),
        (lambda folder: (folder / "specter.jsonl").write_text(""), "Task specter has no training"),
    ],
)
def test_bad_input_leaves_with_2_and_no_corpus(tasks, tmp_path, capsys, change, told):
    change(tasks)
    words = ["prepare", "--tasks", str(tasks), "--to", str(tmp_path / "corpus"), "--quiet"]
    assert main(words) == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


MARKED = [
    {"paper_id": "a", "title": "word1 <i>word2</i> &amp; word3", "abstract": "word4 " * 30},
    {"paper_id": "b", "title": "word5", "abstract": "No abstract available."},
    {"paper_id": "c", "title": "\u200b\ufeff", "abstract": ["\x00"]},
    {"paper_id": "d", "title": "word6 < word7 and costs $5 or $6", "abstract": None},
]


def test_markup_placeholders_and_cut_texts_are_said(tmp_path, tiny_bert, capsys):
    papers = tmp_path / "papers.jsonl"
    papers.write_text("".join(json.dumps(row) + "\n" for row in MARKED))
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"model: {{encoder: {{backbone: {tiny_bert}, max_length: 20}}}}\n")
    to = tmp_path / "corpus"
    assert main(["prepare", "-c", str(recipe), "--papers", str(papers), "--to", str(to)]) == 0
    out = capsys.readouterr().out
    assert "2 papers have markup in title or abstract" in out
    assert f"the first {papers}:1). It is read as plain text" in out
    assert "1 papers have a title or an abstract that only says that there is none" in out
    assert "1 of 3 papers (33.3%) are cut at 20 tokens (max_length): " in out
    corpus = Corpus.open(to)
    assert corpus.info["counts"]["papers_with_text"] == 3
    assert [row["title"] for row in corpus.papers()] == [row["title"] for row in MARKED]
    tokenizer = TextTokenizer.load(tiny_bert)
    store = corpus.tokens(tokenizer.key(InputFormat()))
    assert store.lengths.tolist()[1:3] == [1, 0]
    ids, _ = store.rows(np.array([0]), 5)
    assert tokenizer.hf.decode(ids).startswith("[CLS] word1 word2 [UNK]")


def test_a_full_disk_leaves_no_corpus_and_the_same_command_makes_it(
    tmp_path, tiny_bert, capsys, monkeypatch
):
    tokenizer = TextTokenizer.load(tiny_bert)  # whose loading writes larger files
    monkeypatch.setattr(TextTokenizer, "load", lambda folder: tokenizer)
    write_paper_files(tmp_path)
    arguments = ["--papers", tmp_path / "papers.jsonl", "--citations", tmp_path / "citations.csv"]
    arguments += ["--to", tmp_path / "corpus", "--tokenizer", tiny_bert, "--memory", "1GB"]
    arguments += ["--quiet"]
    for size in (500, 20_000):  # of Parquet; of the database
        with largest_file(size):
            assert run(*arguments) == 1
        (said,) = capsys.readouterr().err.splitlines()
        assert "corpus cannot be written: File too large" in said
        assert "What it is made from is as it was" in said
        assert "Make room and run the same command again." in said
        assert sorted(path.name for path in tmp_path.iterdir()) == ["citations.csv", "papers.jsonl"]
    assert run(*arguments) == 0
    store = next((tmp_path / "corpus" / "tokens").iterdir())
    files = sorted(path.name for path in store.iterdir())
    shutil.rmtree(store)  # a full disk while tokens are added
    with largest_file(700):
        assert run(*arguments) == 1
    assert "cannot be written: File too large" in capsys.readouterr().err
    assert not store.exists()
    assert run(*arguments) == 0
    assert sorted(path.name for path in store.iterdir()) == files
