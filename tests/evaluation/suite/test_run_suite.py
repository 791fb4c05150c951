import json
import shutil

import numpy as np
import pytest

import sciembed_train as st
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.evaluation.suite import run_suite as module
from sciembed_train.evaluation.suite.run_suite import model_hash, run_suite
from sciembed_train.evaluation.suite.suite_settings import SuiteSettings
from sciembed_train.evaluation.suite.suite_table import notes, suite_rows
from sciembed_train.inference.options import EmbedSettings
from tests.helpers.benchmark_folders import write_judged, write_searches
from tests.helpers.prompted_models import PROMPTS, write_prompted
from tests.helpers.small_suite import write_suite


@pytest.fixture
def suite(tmp_path):
    return write_suite(tmp_path / "suite")


@pytest.fixture
def runs(monkeypatch):
    """The pairs that are scored, and not read from a file."""
    seen, real = [], module.run_benchmark

    def watched(request, systems):
        seen.append((request.benchmark, request.model))
        return real(request, systems)

    monkeypatch.setattr(module, "run_benchmark", watched)
    return seen


def test_every_model_is_scored_on_every_entry_once(suite, tmp_path, runs):
    settings = SuiteSettings(suite, tmp_path / "to", ["bm25", "random"])
    first = run_suite(settings, quiet=True)
    assert len(runs) == 2 * len(first.suite.entries)
    assert len(first.scores) == len(runs) - 2  # abstracts of one sentence have no halves
    assert first.skipped["plain/abstract_halves", "bm25"].startswith("has nothing to be asked")
    assert first.scores["reviews/one/review", "bm25"].metrics["review/map"] > 0.9
    runs.clear()
    again = run_suite(settings, quiet=True)
    assert set(runs) == {("abstract_halves", "bm25"), ("abstract_halves", "random")}
    assert {pair: s.as_dict() for pair, s in again.scores.items()} == {
        pair: s.as_dict() for pair, s in first.scores.items()
    }


def test_what_has_changed_is_scored_again(suite, tmp_path, runs):
    def scored(**options):
        runs.clear()
        settings = SuiteSettings(suite, tmp_path / "to", ["random"], only=["review"], **options)
        run_suite(settings, quiet=True)
        return len(runs)

    assert [scored(), scored(), scored(seed=1), scored(seed=1, ties="paper_id")] == [1, 0, 1, 1]
    with (suite / "reviews" / "one" / "papers.jsonl").open("a") as file:
        file.write(json.dumps({"paper_id": "new", "title": "New", "abstract": "x"}) + "\n")
    assert scored(seed=1, ties="paper_id") == 1


def test_prompts_are_of_models_and_other_prompts_are_other_scores(tmp_path, tiny_bert, runs):
    (tmp_path / "searches").mkdir()
    write_searches(tmp_path / "searches")
    model = str(write_prompted(tiny_bert, tmp_path / "m"))
    seen = []
    for asked, papers in ((None, None), ("passage", None), ("passage", "none"), (None, None)):
        settings = SuiteSettings(
            tmp_path / "searches", tmp_path / "to", [model, "bm25"], query_prompt=asked
        )
        found = run_suite(settings, EmbedSettings(device="cpu", prompt=papers), quiet=True)
        (scores,) = (s for (_, name), s in found.scores.items() if name == model)
        before = scores.settings["query_prompt"], scores.settings["input_format"].get("prompt", "")
        seen.append(before)
    words, passage = PROMPTS["query"], PROMPTS["passage"]
    assert seen == [(words, passage), (passage, passage), (passage, ""), (words, passage)]
    # The file has the scores of the last settings; those of bm25 are the same for all.
    assert [name for _, name in runs].count("bm25") == 1


def test_papers_that_lie_elsewhere_are_looked_at_too(suite, tmp_path, runs):
    elsewhere = tmp_path / "elsewhere.jsonl"
    (suite / "topics" / "papers.jsonl").rename(elsewhere)
    path = tmp_path / "suite.yaml"
    path.write_text(
        f"benchmarks: [{{benchmark: labels, data: suite/topics, papers: {elsewhere}}}]\n"
    )
    settings = SuiteSettings(path, tmp_path / "to", ["random"])
    for changed in (False, True):
        run_suite(settings, quiet=True)
        run_suite(settings, quiet=True)
        assert len(runs) == 1 + changed
        elsewhere.write_text(elsewhere.read_text().replace("number 1", "number one"))


def test_the_queries_of_a_dev_split_are_in_no_interval(tmp_path):
    folder = write_judged(tmp_path / "relish")
    settings = SuiteSettings(folder, tmp_path / "to", ["bm25", "random"])
    for _ in range(2):  # scored, then read
        found = run_suite(settings, quiet=True)
        scores = found.scores["relish", "bm25"]
        assert set(scores.tested()) == {"q1", "q3", "q4"}
        assert "q2" in scores.per_query
        cell = suite_rows(found)[0].cells["bm25"]
        assert cell.mean.queries == 3
        assert cell.mean.value == pytest.approx(cell.value)


def test_a_stopped_run_continues(suite, tmp_path, runs, monkeypatch):
    only = ["review", "labels", "citations"]
    settings = SuiteSettings(suite, tmp_path / "to", ["bm25", "random"], only)
    real = module.run_benchmark

    def stopping(request, systems):
        if len(runs) == 3:
            raise KeyboardInterrupt
        return real(request, systems)

    with monkeypatch.context() as patch:
        patch.setattr(module, "run_benchmark", stopping)
        with pytest.raises(KeyboardInterrupt):
            run_suite(settings, quiet=True)
    found = run_suite(settings, quiet=True)
    assert len(runs) == len(set(runs)) == len(found.scores)


def test_a_text_is_embedded_once_for_all_benchmarks_and_runs(
    suite, tmp_path, tiny_bert, monkeypatch
):
    rows, real = [], Encoder.encode_rows

    def counted(self, tokens, *args, **kwargs):
        rows.append(len(tokens))
        return real(self, tokens, *args, **kwargs)

    monkeypatch.setattr(Encoder, "encode_rows", counted)
    to = tmp_path / "to"
    settings = SuiteSettings(suite, to, [str(tiny_bert)], only=["review", "labels", "citations"])
    first = run_suite(settings, quiet=True)
    assert sum(rows) == 30  # the papers are the same in all three
    shutil.rmtree(to / "scores")
    second = run_suite(settings, quiet=True)
    assert sum(rows) == 30
    assert {p: s.per_query for p, s in second.scores.items()} == {
        p: s.per_query for p, s in first.scores.items()
    }


def test_quick_and_full_set_the_samples_of_benchmarks_that_draw_one(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "QUICK", 24)
    for options, queries in (({"quick": True}, 24), ({"full": True}, 30)):
        settings = SuiteSettings(suite, tmp_path / "to", ["random"], only=["labels"], **options)
        (scores,) = run_suite(settings, quiet=True).scores.values()
        assert scores.settings["queries"] <= queries
        assert scores.settings["papers_not_drawn"] == 30 - queries


def test_files_of_vectors_stand_beside_models(suite, tmp_path, runs, tiny_bert):
    path = tmp_path / "v.npy"
    st.embed(tiny_bert, suite / "plain" / "papers.jsonl", path, device="cpu")
    model, vectors = str(tiny_bert), str(path)
    settings = SuiteSettings(suite, tmp_path / "to", [model], embeddings=[vectors])
    found = run_suite(settings, quiet=True)
    assert found.models == [model, vectors]
    for entry in ("reviews/one/review", "topics/labels", "mine/citations"):
        assert found.scores[entry, vectors].metrics == pytest.approx(
            found.scores[entry, model].metrics, abs=1e-6
        )
    assert found.skipped["plain/title_abstract", vectors].startswith("has not all vectors (")
    runs.clear()
    run_suite(settings, quiet=True)
    assert {benchmark for benchmark, _ in runs} == {"abstract_halves", "title_abstract"}
    runs.clear()
    other = SuiteSettings(
        suite, tmp_path / "to", only=["review"], embeddings=[vectors], similarity="cosine"
    )
    (scores,) = run_suite(other, quiet=True).scores.values()
    assert scores.settings["similarity"] == "cosine"
    np.save(path, -np.load(path))
    run_suite(other, quiet=True)
    assert len(runs) == 2  # with another similarity, and with other vectors


def test_a_stored_form_scores_as_the_vectors_that_embed_stores(
    suite, tmp_path, tiny_bert, monkeypatch
):
    rows, real = [], Encoder.encode_rows

    def counted(self, tokens, *args, **kwargs):
        rows.append(len(tokens))
        return real(self, tokens, *args, **kwargs)

    model, papers = str(tiny_bert), suite / "plain" / "papers.jsonl"
    only = ["review", "labels", "citations"]
    forms = {"int8": (None, "int8"), "binary": (None, "binary"), "8": (8, "float32")}
    forms |= {"8 int8": (8, "int8"), "8 binary": (8, "binary")}
    settings = SuiteSettings(
        suite, tmp_path / "to", [model], only, dim=[8], dtype=["int8", "binary"]
    )
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode_rows", counted)
        found = run_suite(settings, quiet=True)
    assert sum(rows) == 30  # each paper once, whatever it is stored as
    assert found.models == [model, *(f"{model} {name}" for name in forms)]
    assert found.whole == [model]
    files = {}
    for name, (dim, dtype) in forms.items():
        files[name] = str(tmp_path / f"{name.replace(' ', '_')}.npy")
        st.embed(model, papers, files[name], device="cpu", dim=dim, dtype=dtype)
    other = SuiteSettings(suite, tmp_path / "files", [], only, embeddings=list(files.values()))
    read = run_suite(other, quiet=True)
    for name, path in files.items():
        for entry in found.suite.entries:
            scores = found.scores[entry.name, f"{model} {name}"]
            assert scores.metrics == pytest.approx(read.scores[entry.name, path].metrics, abs=1e-6)
            assert scores.settings.get("dtype", "float32") == forms[name][1]
    # A form that was left out, or mistaken for another one, would have another one's scores.
    unlike = [found.scores["mine/citations", f"{model}{form}"] for form in ("", " binary", " 8")]
    assert len({tuple(scores.metrics.values()) for scores in unlike}) == 3
    again = run_suite(settings, quiet=True)
    assert again.scores.keys() == found.scores.keys()


def test_forms_are_of_models_that_have_one_vector_a_text(suite, tmp_path, tiny_bert, runs):
    model = str(tiny_bert)
    wide = SuiteSettings(suite, tmp_path / "to", [model], ["review"], dim=[8, 33])
    with pytest.raises(UserError, match=r"--dim is 33, and the vectors of .* have 32 numbers"):
        run_suite(wide, quiet=True)
    assert not (tmp_path / "to" / "scores").exists()  # before anything is scored
    none = SuiteSettings(suite, tmp_path / "to", ["bm25", "random"], ["review"], dtype=["int8"])
    with pytest.raises(UserError, match="--dim and --dtype are about models with one vector"):
        run_suite(none, quiet=True)
    assert runs == []
    mixed = SuiteSettings(suite, tmp_path / "to", ["bm25", model], ["review"], dtype=["int8"])
    found = run_suite(mixed, quiet=True)
    assert found.models == ["bm25", model, f"{model} int8"]
    (note,) = (line for line in notes(found, suite_rows(found)) if line.startswith("Of "))
    assert note.startswith("Of bm25 there is no vector of a text")


def test_what_cannot_be_scored_is_told_of_the_model_alone(suite, tmp_path, tiny_bert):
    only = ["abstract_halves"]  # abstracts of one sentence have none
    settings = SuiteSettings(suite, tmp_path / "to", [str(tiny_bert)], only, dtype=["int8"])
    found = run_suite(settings, quiet=True)
    assert list(found.skipped) == [("plain/abstract_halves", str(tiny_bert))]


def test_models_that_compare_sentences_have_no_forms(tiny_bert, tmp_path):
    encoder = Encoder(
        EncoderSettings(str(tiny_bert), pooling="sentences", max_length=64, dropout=0.0)
    )
    encoder.save(tmp_path / "many", {"similarity": "best_match"})
    assert not module._one_vector(str(tmp_path / "many"), EmbedSettings(device="cpu"))
    assert module._one_vector(str(tiny_bert), EmbedSettings(device="cpu"))


def test_a_wrong_model_or_damaged_file_is_told(suite, tmp_path):
    with pytest.raises(UserError, match="nothing_here"):
        run_suite(SuiteSettings(suite, tmp_path / "to", ["random", "./nothing_here"]), quiet=True)
    assert not (tmp_path / "to" / "scores").exists()  # before anything is scored
    settings = SuiteSettings(suite, tmp_path / "to", ["random"], only=["review"])
    run_suite(settings, quiet=True)
    (file,) = (tmp_path / "to" / "scores").rglob("*.json")
    file.write_text(file.read_text()[:-30])
    with pytest.raises(UserError, match=r"is damaged .* Delete it"):
        run_suite(settings, quiet=True)


def test_a_model_is_known_by_its_files(tiny_bert, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bert, copy)
    assert model_hash(str(copy)) == model_hash(str(tiny_bert))
    (copy / "notes.txt").write_text("x")
    assert model_hash(str(copy)) != model_hash(str(tiny_bert))
    assert model_hash("bm25") == "bm25"


def test_names_of_files_are_never_hidden():
    for cut in range(55, 66):
        name = module._file_name("x" * cut + "/.venv/lib/" + "y" * (60 - len("venv/lib/")))
        assert name[0] not in ".-"
