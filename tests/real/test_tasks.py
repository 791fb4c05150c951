"""SciRepEval's own training samples as they lie; skipped where there are none."""

import json
from collections import Counter

import numpy as np
import pytest

from sciembed_train.cli import main as train
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.corpus.tasks.task_types import TaskBuilding
from sciembed_train.sampling.base import TokenizationSpec
from sciembed_train.sampling.tasks import TaskSampling
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.tokenizer import TextTokenizer


@pytest.fixture(scope="module")
def samples(shared_data):
    folder = shared_data / "scirepeval"
    if not (folder / "tasks_config.json").is_file():
        pytest.skip("no samples of SciRepEval in ../shared/data")
    return folder


@pytest.fixture(scope="module")
def corpus(samples, minilm, tmp_path_factory):
    """The samples, nothing held out, negatives as published."""
    settings = PrepareSettings(
        tasks=samples,
        to=tmp_path_factory.mktemp("samples") / "corpus",
        tokenizer=minilm,
        dev_share=0.0,
        task_building=TaskBuilding(negatives="last"),
    )
    return prepare(settings)


def given(samples, name):
    """The records of a task as they lie, and the text of a paper."""
    path = next(samples.glob(f"{name}_small.json*"))
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text)


def text(row, *fields):
    values = [row[field] for field in (*("title", "abstract"), *fields)]
    values = [str(int(v)) if isinstance(v, float) else (v or "").strip() for v in values]
    return [value for value in values if value]


def test_every_record_gives_the_examples_that_the_published_code_makes(corpus):
    counts = {name: n["train"] for name, n in corpus.info["counts"]["tasks"].items()}
    assert counts == {"mesh": 206, "fos": 205, "search": 500, "s2and": 196, "specter": 200}
    report = json.loads((corpus.folder / "report.json").read_text())
    assert not any(part.get("malformed") for part in report.values())
    assert "cite_pred, year_pred, cite_context" in report["tasks"]["notes"][0]


def test_labels_are_those_of_the_files(corpus, samples):
    tasks = corpus.tasks()
    fos = tasks.labels("fos", "train")
    expected = [row["labels"] for row in given(samples, "fos")]  # SciRepEval's own numbers
    assert [np.flatnonzero(row).tolist() for row in fos] == [sorted(set(r)) for r in expected]
    assert Counter(fos.sum(1).tolist()) == {1: 173, 2: 30, 3: 2}
    mesh, names = tasks.labels("mesh", "train").tolist(), tasks.by_name["mesh"].labels
    assert [names[number] for number in mesh] == [r["descriptor"] for r in given(samples, "mesh")]
    assert len(set(mesh)) == 30


def test_texts_are_those_of_the_files(corpus, samples):
    tasks = corpus.tasks()
    texts = list(tasks.texts())
    rows = tasks.examples("specter", "train")
    assert len(np.unique(rows)) == 596
    for row, record in zip(rows, given(samples, "specter"), strict=True):
        assert [texts[n] for n in row] == [text(record[k]) for k in ("query", "pos", "neg")]
    rows = tasks.examples("search", "train").reshape(100, 5, 3)
    for five, record in zip(rows, given(samples, "search"), strict=True):
        found = [text(c, "venue", "year") for c in record["candidates"]]
        scores = [c["score"] for c in record["candidates"]]
        assert {texts[n][0] for n in five[:, 0]} == {record["query"].strip()}
        for _, positive, negative in five.tolist():
            assert scores[found.index(texts[positive])] > 0
            assert scores[found.index(texts[negative])] == 0
    assert any(len(texts[n]) == 4 and texts[n][3].isdigit() for n in rows.ravel())


def test_a_held_out_text_is_in_no_training_example(samples, tmp_path):
    settings = PrepareSettings(tasks=samples, to=tmp_path / "c", dev_share=0.2)
    tasks = prepare(settings).tasks()
    held = {
        split: {n for task in tasks.tasks for n in tasks.examples(task.name, split).flat}
        for split in ("train", "dev")
    }
    assert not held["train"] & held["dev"]
    assert all(0 < task.examples["dev"] < task.examples["train"] for task in tasks.tasks)


def test_a_step_has_every_task_and_reads_it_as_the_published_text(corpus, minilm, samples):
    tokenizer = TextTokenizer.load(minilm)
    reading = TokenizationSpec(tokenizer, InputFormat(), 128, 0)
    examples = TaskSampling().open(corpus, reading, None)
    plan = examples.plan(64, 0, 4)
    seen = set()
    for rank in range(4):
        batch = examples.batch(plan.indices(0), 0, 0, plan.share(rank))
        assert len(batch.parts) == 5
        seen |= {tuple(row.tolist()) for row in batch.rows.ids.split(batch.rows.lengths.tolist())}
    fos = [" [SEP] ".join(text(row)) for row in given(samples, "fos")]
    published = tokenizer.hf(fos, truncation=True, max_length=128)["input_ids"]
    assert sum(tuple(ids) in seen for ids in published) >= plan.quotas[1]


def test_show_tells_the_tasks_of_the_samples(samples, minilm, tmp_path, capsys):
    (tmp_path / "r.yaml").write_text(
        "data: {batch_size: 64, sampling: {class_path: sciembed_train.sampling.tasks.TaskSampling}}"
        f"\nmodel: {{encoder: {{backbone: {minilm}}}}}\n"
    )
    words = ["-c", str(tmp_path / "r.yaml"), "--data.tasks", str(samples), "--count", "1"]
    assert train(["show", *words, "--cache", str(tmp_path / "cache")]) == 0
    out = capsys.readouterr().out
    assert out.count("\ntask ") == 10  # an example and the account of each
    assert "read for adhoc_query" in out
    assert "without data in its folder: cite_pred" in out
