import json

import numpy as np
import pytest

from sciembed_train.cli import main
from sciembed_train.corpus.build import cached_corpus, prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.summary import summary
from sciembed_train.corpus.tasks.task_types import TaskBuilding
from sciembed_train.errors import UserError
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer
from tests.helpers.tasks import EIGHT, write_lines, write_tasks


@pytest.fixture
def given(tmp_path):
    return write_tasks(tmp_path / "given", dict.fromkeys(EIGHT, 30))


def test_tasks_alone_make_a_corpus(given, tiny_bert, tmp_path, capsys):
    to = tmp_path / "corpus"
    command = ["prepare", "--tasks", str(given), "--to", str(to), "--tokenizer", str(tiny_bert)]
    assert main([*command, "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    corpus = Corpus.open(to)
    assert told["tasks"] == corpus.info["counts"]["tasks"]
    assert told["task_texts"] == corpus.tasks().n_texts
    assert (corpus.n_papers, corpus.n_documents, corpus.has_tasks) == (0, 0, True)
    assert sorted(p.name for p in to.iterdir()) == [
        *("corpus.json", "report.json", "task_texts.parquet", "task_tokens", "tasks", "tasks.json")
    ]
    sources = {(s["kind"], s["task"], s["name"]) for s in corpus.info["sources"]}
    assert sources == {("tasks", name, f"{name}.jsonl") for name in EIGHT}
    assert "task search: train" in summary(corpus)
    assert "tokens of tasks" in summary(corpus)


def test_texts_are_tokenised_as_a_paper_is_read(given, tiny_bert, tmp_path):
    tokenizer = TextTokenizer.load(tiny_bert)
    for input_format in (InputFormat(), InputFormat(separator="space")):
        settings = PrepareSettings(
            tasks=given, to=tmp_path / "corpus", tokenizer=tiny_bert, input_format=input_format
        )
        tasks = prepare(settings).tasks()
        store = tasks.tokens(tokenizer.key(input_format))
        sep = f" {tokenizer.sep_token} " if input_format.separator == "sep" else " "
        for number, fields in enumerate(tasks.texts()):
            (expected,) = tokenizer.rows([sep.join(fields)], 512)
            assert store.rows(np.array([number]), 512)[0].tolist() == expected
            if len(fields) == 2:
                (paper,) = tokenizer.rows([input_format.compose(*fields, tokenizer.sep_token)], 512)
                assert paper == expected


def test_the_same_files_are_prepared_once_and_other_settings_anew(given, tmp_path):
    def made(**values):
        return prepare(PrepareSettings(tasks=given, to=tmp_path / "corpus", **values))

    before = made().info["identity"]
    stamp = (tmp_path / "corpus" / "tasks.json").stat().st_mtime_ns
    made()
    assert (tmp_path / "corpus" / "tasks.json").stat().st_mtime_ns == stamp
    other = made(task_building=TaskBuilding(negatives="last")).info["identity"]
    assert other != before
    assert made().info["identity"] == before
    rows = (given / "mesh.jsonl").read_text().splitlines()
    (given / "mesh.jsonl").write_text("\n".join(rows[:-1]))
    assert made().info["identity"] != before
    entries = json.loads((given / "tasks_config.json").read_text())
    entries[0]["sample_size"] = 3
    (given / "tasks_config.json").write_text(json.dumps(entries))
    assert made().info["counts"]["tasks"]["cite_pred"]["train"] == 3


def test_what_has_tasks_and_papers_holds_both(given, tiny_bert, tmp_path):
    papers = [{"paper_id": i, "title": f"word{i} word1", "abstract": "word2"} for i in range(40)]
    write_lines(tmp_path / "papers.jsonl", papers)
    write_lines(
        tmp_path / "citations.jsonl",
        [{"citing": i, "cited": j} for i in range(40) for j in (i + 1, i + 2) if j < 40],
    )
    settings = PrepareSettings(
        papers=tmp_path / "papers.jsonl",
        citations=tmp_path / "citations.jsonl",
        tasks=given,
        to=tmp_path / "corpus",
        tokenizer=tiny_bert,
    )
    corpus = prepare(settings)
    key = TextTokenizer.load(tiny_bert).key(InputFormat())
    assert corpus.n_papers == 40
    assert len(corpus.tokens(key)) == 40
    assert len(corpus.tasks().tokens(key)) == corpus.tasks().n_texts
    assert len(corpus.triplets("train"))


def test_the_cache_knows_tasks_by_their_files(given, tmp_path):
    one, two = (
        cached_corpus(PrepareSettings(tasks=place), tmp_path / "cache")
        for place in (given, given / "tasks_config.json")
    )
    assert one.folder == two.folder


def test_options_of_the_command_stand_above_the_recipe(given, tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {task_building: {negatives: last, per_query: 3}}\n")
    to = tmp_path / "corpus"
    words = ["prepare", "-c", str(recipe), "--tasks", str(given), "--to", str(to), "--quiet"]
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
def test_bad_input_leaves_with_2_and_no_corpus(given, tmp_path, capsys, change, told):
    change(given)
    words = ["prepare", "--tasks", str(given), "--to", str(tmp_path / "corpus"), "--quiet"]
    assert main(words) == 2
    assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


def test_lists_of_ids_need_papers_or_documents(given, tmp_path):
    with pytest.raises(UserError, match="--dev-ids names papers or documents"):
        PrepareSettings(tasks=given, dev_ids=tmp_path / "ids")
    with pytest.raises(UserError, match="or --tasks, a list of tasks"):
        PrepareSettings()
    with pytest.raises(UserError, match="--citations names papers"):
        PrepareSettings(tasks=given, citations="f")


def test_what_is_damaged_is_told(given, tmp_path):
    corpus = prepare(PrepareSettings(tasks=given, to=tmp_path / "corpus"))
    tasks = corpus.tasks()
    with pytest.raises(ValueError, match="one of triplets"):
        tasks.labels("specter", "train")
    (corpus.folder / "tasks" / "mesh" / "train.npy").write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        tasks.examples("mesh", "train")
    (corpus.folder / "tasks.json").write_text("[{}]")
    with pytest.raises(UserError, match=r"tasks.json is damaged"):
        corpus.tasks()
