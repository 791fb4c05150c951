"""What a benchmark has of the papers that a model was trained on, counted for every benchmark."""

import json

import numpy as np
import pytest

from sciembed_train import cli
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.prepare_settings import PrepareSettings
from sciembed_train.encoder.io.training_titles import title_numbers
from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.run_benchmark import run_benchmark
from sciembed_train.evaluation.trained_titles import WatchedEmbedder, WatchedSystem, told
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.text.normalise import text_number
from tests.helpers.benchmark_folders import write_csfcube, write_judged, write_searches
from tests.helpers.exports import CARD, encoder_of
from tests.helpers.scidocs_folder import write_scidocs
from tests.helpers.small_scirepeval import documents, judged, labelled, write_tasks

PAPERS = "abcdefghijklmnop"


@pytest.fixture(scope="module")
def model(tiny_bert, tmp_path_factory):
    """A model that was trained on the titles of some papers of every benchmark here."""

    def of(*titles):
        folder = tmp_path_factory.mktemp("models") / "m"
        numbers = np.array([text_number(title) for title in titles], np.int64)
        export_encoder(encoder_of(tiny_bert), folder, CARD, titles=title_numbers(numbers))
        return folder

    return of


def scores(model, benchmark, data, **settings):
    request = EvaluateSettings(
        benchmark, str(data), str(model), quiet=True, embed=EmbedSettings(device="cpu"), **settings
    )
    return run_benchmark(request)


def trained_on(found):
    counts = found.settings["trained_on"]
    return tuple(counts[key] for key in ("queries", "of_queries", "candidates", "of_candidates"))


def test_searches_count_papers_that_ask_and_all_papers(model, tmp_path):
    write_searches(tmp_path)
    found = scores(model("SORTING networks", "Garbage collection."), "retrieval", tmp_path)
    assert trained_on(found) == (1, 3, 2, 4)
    assert found.warning is not None
    assert found.warning.startswith("1 of 3 queries and 2 of 4 candidates have titles")
    assert f"--exclude {tmp_path}" in found.warning
    assert str(found).count("\nwarning: 1 of 3 queries") == 1


def test_judged_pools_count_queries_and_the_papers_of_their_pools(model, tmp_path):
    write_judged(tmp_path, "relish")
    found = scores(model("T q1", "T a", "T b", "T unused"), "relish", tmp_path)
    # q1 is a candidate of q3, and so counts twice.
    assert trained_on(found) == (1, 4, 3, 6)


def test_csfcube_counts_as_other_pools_do(model, tmp_path):
    place = write_csfcube(tmp_path / "csfcube")
    rows = [
        {"paper_id": p, "title": f"T {p}", "abstract": ["One.", "Two."]}
        for p in ("q1", "q2", "q3", *"abcdef")
    ]
    (place / "abstracts-csfcube.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert trained_on(scores(model("T q2", "T f"), "csfcube", place)) == (1, 3, 1, 6)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    rows = [
        {"paper_id": p, "title": f"Title {p}", "abstract": f"One of {p}. Two of {p}."}
        for p in PAPERS
    ]
    (folder / "papers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [(a, b) for at, a in enumerate(PAPERS) for b in PAPERS[at + 1 : at + 4]]
    (folder / "citations.csv").write_text("".join(f"{a},{b}\n" for a, b in pairs))
    (folder / "test.txt").write_text("a\nb\n")
    settings = PrepareSettings(
        folder / "papers.jsonl",
        citations=folder / "citations.csv",
        test_ids=folder / "test.txt",
        dev_share=0.0,
        to=folder / "corpus",
    )
    return prepare(settings).folder


@pytest.mark.parametrize("benchmark", ["citations", "title_abstract", "abstract_halves"])
def test_a_corpus_counts_by_the_titles_of_its_papers(model, corpus, benchmark):
    found = scores(model("title a", "title p"), benchmark, corpus)
    assert trained_on(found) == (1, 2, 2, len(PAPERS))
    assert found.warning is None
    assert "That is right for the corpus of the training" in found.notes[-1]


def test_scirepeval_counts_what_asks_and_what_is_predicted(model, tmp_path):
    pools = {"p0": {"p1": 1, "p2": 0}, "p3": {"p4": 1, "p5": 0}}
    task = judged(tmp_path, "near", pools, documents(), metrics=["map"])
    write_tasks(tmp_path, task)
    found = scores(model("TITLE 0", "title 1", "Title 2", "title 9"), "scirepeval", tmp_path)
    assert trained_on(found) == (1, 2, 2, 4)
    labels = labelled(tmp_path, "parity", lambda i: str(i % 2), metrics=["f1"])
    write_tasks(tmp_path, labels)
    found = scores(model("Title 3", "Title 20", "Title 21"), "scirepeval", tmp_path)
    assert trained_on(found) == (2, 8, 1, 16)


def test_scidocs_counts_queries_and_what_is_predicted(model, tmp_path):
    folder = write_scidocs(tmp_path / "s", tasks=("cite",), classes=("mag",))
    found = scores(model("T q1", "T a", "T m001", "T m066", "T m067"), "scidocs", folder)
    # 3 queries and the 24 papers of test; 5 candidates that do not ask, and the 60 of train.
    assert trained_on(found) == (3, 27, 2, 65)
    assert 0 < found["mag/f1_macro"] <= 1


def test_every_benchmark_of_the_registry_is_counted_in_one_place(model, tmp_path):
    place = str(model("x"))
    for name in BENCHMARKS:
        request = EvaluateSettings(name, "d", place, quiet=True, embed=EmbedSettings(device="cpu"))
        if name == "scirepeval":
            assert isinstance(Systems().embedder(request), WatchedEmbedder)
        else:
            assert isinstance(Systems().system(request), WatchedSystem)


def test_a_model_that_does_not_say_its_titles_is_not_counted(tiny_bert, tmp_path):
    write_searches(tmp_path)
    found = scores(tiny_bert, "retrieval", tmp_path)
    assert "trained_on" not in found.settings
    assert found.warning is None


def test_no_warning_where_candidates_alone_were_trained_on():
    counts = {"queries": 0, "of_queries": 3, "candidates": 2, "of_candidates": 4}
    assert told({"trained_on": counts}, "d") == (None, None)


def test_the_command_prints_the_line_and_writes_both_counts(model, tmp_path, capsys):
    data = tmp_path / "searches"
    data.mkdir()
    write_searches(data)
    words = ["--benchmark", "retrieval", "--data", data, "--model", model("Sorting networks")]
    target = tmp_path / "results.json"
    assert cli.main(["evaluate", *map(str, words), "--to", str(target)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("warning: 1 of 3 queries and 1 of 4 candidates") for line in lines)
    settings = json.loads(target.read_text())["settings"]
    assert settings["trained_on"]["queries"] == 1
    assert settings["trained_on"]["candidates"] == 1
    assert settings["warning"].startswith("1 of 3 queries")
