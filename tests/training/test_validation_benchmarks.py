"""Benchmarks that are scored while a run trains, in whole runs and by themselves."""

import json
import math
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sciembed_train import cli
from sciembed_train.commands import export, fit, validate
from sciembed_train.config.validation_settings import ValidationSettings
from sciembed_train.config.verdict_settings import VerdictSettings
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS
from sciembed_train.evaluation.evaluate_settings import EvaluateSettings
from sciembed_train.evaluation.run_benchmark import run_benchmark
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.text.normalise import text_number
from sciembed_train.training.callbacks.checkpoints import higher_is_better
from sciembed_train.training.validation_benchmarks import (
    ValidationBenchmarks,
    validation_benchmarks,
)
from tests.helpers.benchmark_folders import write_csfcube
from tests.helpers.exports import encoder_of
from tests.helpers.processes import run_ranks
from tests.helpers.runs import finish, losses, rows, start, validations
from tests.helpers.small_corpus import write_small_corpus, write_small_documents
from tests.helpers.topic_papers import write_search, write_topic_papers

MONITOR = "val/topics/citations/map"
SAMPLE = 50


def named(*places, verdict="off", **settings):
    values = ValidationSettings(list(map(str, places)), **settings)
    return validation_benchmarks(values, VerdictSettings(verdict=verdict))


def scored(run):
    """The scores of benchmarks at each validation, to the last bit."""
    return {
        int(row["step"]): {
            k: v for k, v in row.items() if k.startswith("val/") and k.count("/") > 1
        }
        for row in rows(run)
        if row["val/loss"]
    }


def checkpoint(run, name):
    return torch.load(run / name, weights_only=True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("folders")
    search, topics = write_search(place / "search"), write_topic_papers(place / "topics")
    return SimpleNamespace(place=place, search=search, topics=topics)


@pytest.fixture(scope="module")
def words(folders):
    places = ["citations", "title_abstract", str(folders.search), str(folders.topics)]
    return ("--validation", json.dumps(places), "--validation_sample", str(SAMPLE))


@pytest.fixture(scope="module")
def watched(toy, words):
    """The run that is never interrupted, with benchmarks."""
    assert fit.main(toy.arguments("--run", "watched", *words, "--checkpoint.monitor", MONITOR)) == 0
    return toy.root / "watched"


@pytest.mark.slow
def test_a_folder_chooses_the_best_step_and_ends_the_run(toy, words, watched):
    by_folder = ("--checkpoint.monitor", MONITOR, "--early_stopping.monitor", MONITOR)
    more = ("--run", "by_folder", *words, *by_folder, "--early_stopping.patience", "1")
    assert fit.main(toy.arguments(*more)) == 0
    run = toy.root / "by_folder"
    maps = {step: float(values[MONITOR]) for step, values in scored(run).items()}
    held_out = {step: float(loss) for step, (loss, _) in validations(run).items()}
    best = checkpoint(run, "best.ckpt")["global_step"]
    assert maps[best] == max(maps.values())
    assert best != min(held_out, key=held_out.__getitem__)  # the loss chooses another
    assert max(maps) == max(losses(run)) < max(losses(watched))
    *before, last = maps
    assert maps[last] <= max(maps[step] for step in before)
    assert MONITOR.removeprefix("val/") in (run / "report.html").read_text()


@pytest.mark.slow
def test_training_is_the_same_with_benchmarks_and_without(whole, watched):
    assert losses(watched) == losses(whole)
    assert validations(watched) == validations(whole)
    ours, theirs = (checkpoint(run, "last.ckpt")["state_dict"] for run in (watched, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
def test_evaluate_gives_the_same_scores_of_the_export(toy, folders, watched, tmp_path, name):
    assert export.main([str(watched / name), "--to", str(tmp_path / "export")]) == 0
    step = checkpoint(watched, name)["global_step"]
    asked = {
        "val/citations/map": ("citations", toy.corpus, "citations/map", {"split": "dev"}),
        "val/title_abstract/mrr": (
            *("title_abstract", toy.corpus, "title_abstract/mrr"),
            {"split": "dev"},
        ),
        "val/search/retrieval/map_grade1": (
            *("retrieval", folders.search, "retrieval/map_grade1"),
            {},
        ),
        MONITOR: ("citations", folders.topics, "citations/map", {}),
    }
    for score, (benchmark, data, metric, options) in asked.items():
        settings = EvaluateSettings(
            benchmark,
            data,
            str(tmp_path / "export"),
            sample=SAMPLE,
            embed=EmbedSettings(device="cpu"),
            quiet=True,
            **options,
        )
        expected = run_benchmark(settings)[metric]
        assert float(scored(watched)[step][score]) == pytest.approx(expected, abs=1e-6), score


@pytest.mark.slow
def test_a_continued_run_has_the_scores_of_one_never_stopped(toy, words, watched):
    stop = ("--trainer.callbacks", "tests.helpers.runs.StopAt", "--trainer.callbacks.step", "25")
    run = ("--run", "watched25", *words, "--checkpoint.monitor", MONITOR)
    assert fit.main(toy.arguments(*run, *stop)) == 128 + signal.SIGTERM
    assert fit.main(toy.arguments(*run, "--ckpt_path", "last")) == 0
    continued = toy.root / "watched25"
    assert scored(continued) == scored(watched)
    for name in ("best.ckpt", "last.ckpt"):
        ours, theirs = checkpoint(continued, name), checkpoint(watched, name)
        assert ours["global_step"] == theirs["global_step"]
        kept = [
            next(s for key, s in c["callbacks"].items() if key.startswith("RunCheckpoints"))
            for c in (ours, theirs)
        ]
        assert kept[0] == kept[1]
        assert kept[0]["monitor"] == MONITOR


def test_validate_prints_them_too(toy, words, watched, capsys):
    own = [w for w in toy.arguments(*words) if w not in ("--no_export", "--quiet")]
    capsys.readouterr()
    assert validate.main([*own, "--ckpt_path", str(watched / "last.ckpt"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    last = scored(watched)[48]
    assert printed.keys() >= last.keys()
    for name, value in last.items():
        assert printed[name] == pytest.approx(float(value), abs=1e-6)


def test_a_run_without_dev_examples_is_validated_on_benchmarks_alone(
    toy, folders, tiny_bert, tmp_path, capsys
):
    write_small_documents(tmp_path / "corpus", tiny_bert, [60] * 20, held_out=0)
    words = [
        *("-c", "declutr_base", "--root", str(tmp_path), "--run", "documents"),
        *("--data.corpus", str(tmp_path / "corpus"), "--model.encoder.backbone", str(tiny_bert)),
        *("--data.batch_size", "4", "--data.sampling.num_anchors", "1"),
        *("--data.sampling.max_span", "16", "--data.sampling.min_span", "8"),
        *("--data.sampling.mlm_probability", "0", "--model.mlm_weight", "0"),
        *("--model.encoder.max_length", "16"),
        *("--trainer.max_steps", "2", "--trainer.accelerator", "cpu", "--trainer.devices", "1"),
        *("--trainer.precision", "32-true", "--no_export", "--quiet"),
        *("--validation", str(folders.search)),
    ]
    assert cli.main(["fit", *words]) == 2
    said = capsys.readouterr().err
    assert "are val/search/retrieval/map_grade1, val/search/retrieval/ndcg10_log2." in said
    monitor = ("--checkpoint.monitor", "val/search/retrieval/map_grade1")
    assert cli.main(["fit", *words, *monitor]) == 0
    assert (tmp_path / "documents" / "best.ckpt").is_file()
    (row,) = (r for r in rows(tmp_path / "documents") if r[monitor[1]])
    assert 0 < float(row[monitor[1]]) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_stop_together_by_a_folder_with_the_scores_of_one(
    toy, words, strategy, capsys
):
    by_folder = ("--checkpoint.monitor", MONITOR, "--early_stopping.monitor", MONITOR)
    stop = ("--early_stopping.patience", "1", "--early_stopping.min_delta", "100")
    more = (*words, "--trainer.strategy", strategy, "--model.encoder.forward", "padded")
    two = toy.arguments("--run", f"two_{strategy}", *more, *by_folder, *stop)
    code, shown = finish(start("fit", *two, "--trainer.devices", "2"))
    assert code == 0, shown
    run = toy.root / f"two_{strategy}"
    maps = {step: float(values[MONITOR]) for step, values in scored(run).items()}
    assert max(losses(run)) == 20
    assert maps[checkpoint(run, "best.ckpt")["global_step"]] == max(maps.values())
    one = [w for w in toy.arguments(*words) if w not in ("--no_export", "--quiet")]
    for name in ("best.ckpt", "last.ckpt"):
        capsys.readouterr()
        assert validate.main([*one, "--ckpt_path", str(run / name), "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        for score, value in scored(run)[checkpoint(run, name)["global_step"]].items():
            assert printed[score] == pytest.approx(float(value), abs=1e-6)


# What a run says before its first step.


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["citation"], "validation: citation: there is no such folder or file; expected citations"),
        (["csfcube"], "validation: csfcube: there is no such"),
        (["{place}"], "no benchmark is recognised by its files"),
        (["{search}", "citations"], "are val/loss, val/mrr, val/recall@10, val/map, val/search"),
    ],
)
def test_what_is_no_benchmark_is_told_before_the_run(
    toy, tmp_path, capsys, folders, places, expected
):
    values = {"place": str(tmp_path), "search": str(folders.search)}
    listed = json.dumps([place.format(**values) for place in places])
    more = ("--run", "refused", "--validation", listed, "--checkpoint.monitor", "val/search/map")
    assert cli.main(["fit", *toy.arguments(*more)]) == 2
    assert not (toy.root / "refused").exists()
    said = capsys.readouterr().err
    assert expected in said
    assert "Traceback" not in said


def test_data_that_cannot_be_read_end_the_run_before_its_first_step(toy, tmp_path, capsys):
    broken = write_search(tmp_path / "broken")
    (broken / "qrels.tsv").write_text("q1 0 nobody 1\n")
    assert cli.main(["fit", *toy.arguments("--run", "refused", "--validation", str(broken))]) == 2
    assert not (toy.root / "refused").exists()
    assert "validation: broken/retrieval:" in capsys.readouterr().err


def test_validation_that_is_left_out_scores_nothing(toy, capsys):
    more = ("--validation", "citations", "--trainer.limit_val_batches", "0")
    assert cli.main(["fit", *toy.arguments("--run", "refused", *more)]) == 2
    assert "validation names benchmarks, and trainer.limit_val_batches=0" in capsys.readouterr().err


def test_an_encoder_of_sentences_is_refused():
    from sciembed_train.training.validation_benchmarks import no_vector_of_a_text

    def method(multi_vector=False, names=()):
        reader = SimpleNamespace(names=names)
        return SimpleNamespace(
            multi_vector=multi_vector, encoder=SimpleNamespace(format_reader=reader)
        )

    assert no_vector_of_a_text(method(), "papers") is None
    assert no_vector_of_a_text(method(names=["search"]), "papers") is None
    assert "vectors of sentences" in no_vector_of_a_text(method(multi_vector=True), "papers")
    assert "vectors of sentences" in no_vector_of_a_text(method(), "sentences")
    assert "several formats" in no_vector_of_a_text(method(names=["a", "b"]), "papers")


# Names.


def test_the_names_of_scores_tell_folders_apart(folders, tmp_path):
    other = write_search(tmp_path / "search")
    cube = write_csfcube(tmp_path / "csfcube")
    (tmp_path / "some.jsonl").write_text("{}")
    found = named("citations", folders.search, other, cube, tmp_path / "some.jsonl")
    assert [(one.name, one.data) for one in found] == [
        ("citations", None),
        ("search/retrieval", folders.search),
        (f"{tmp_path.name}/search/retrieval", other),
        ("csfcube", cube),
        ("some.jsonl/title_abstract", tmp_path / "some.jsonl"),
    ]
    assert list(found[0].metrics) == ["val/citations/map"]
    assert list(found[3].metrics) == ["val/csfcube/map_grade2", "val/csfcube/ndcg_pct20_jk"]


def test_a_folder_of_folders_and_a_list_give_all_their_benchmarks(folders, tmp_path):
    assert [one.name for one in named(folders.place)] == [
        f"{folders.place.name}/search/retrieval",
        f"{folders.place.name}/topics/citations",
    ]
    content = "benchmarks:\n- {benchmark: retrieval, data: %s, name: mine, sample: 7}\n"
    (tmp_path / "suite.yaml").write_text(content % folders.search)
    (one,) = named(tmp_path / "suite.yaml")
    assert one.name == "mine"
    assert one.request(tmp_path, ValidationSettings(), EmbedSettings()).sample == 7
    (tmp_path / "again.yaml").write_text(content % folders.search)
    with pytest.raises(UserError, match="two benchmarks are called mine"):
        named(tmp_path / "suite.yaml", tmp_path / "again.yaml")


def test_more_is_better_for_every_score_that_stands_for_a_benchmark():
    assert all(higher_is_better(key) for one in BENCHMARKS.values() for key in one.metrics)


def test_only_dev_papers_ask_and_candidates_are_few(tmp_path):
    (one,) = named("citations")
    request = one.request(tmp_path, ValidationSettings(validation_seed=3), EmbedSettings())
    assert (request.data, request.split, request.sample, request.seed) == (tmp_path, "dev", 2000, 3)


def test_a_guard_is_not_validated_on(folders):
    verdict = VerdictSettings(guards=[str(folders.place / "topics" / ".." / "search")])
    with pytest.raises(UserError, match="is in validation and in guards"):
        validation_benchmarks(ValidationSettings([str(folders.search)]), verdict)
    off = VerdictSettings(verdict="off", guards=[str(folders.search)])
    assert validation_benchmarks(ValidationSettings([str(folders.search)]), off)


# What is trained on.


@pytest.fixture
def corpus(tmp_path, tiny_bert):
    return write_small_corpus(tmp_path / "corpus", tiny_bert)


def opened(corpus, *places, **settings):
    values = ValidationSettings(list(map(str, places)), **settings)
    benchmarks = validation_benchmarks(values, VerdictSettings(verdict="off"))
    return ValidationBenchmarks(benchmarks, values, corpus)


def test_texts_that_are_trained_on_are_a_warning(corpus, folders):
    benchmarks = opened(corpus, "citations", folders.topics)
    assert benchmarks.check(None) == []
    with (folders.topics / "papers.jsonl").open() as file:
        titles = [json.loads(line)["title"] for line in file]
    numbers = np.unique(np.array([text_number(t) for t in titles[:30]]).view(np.uint64))
    (warning,) = benchmarks.check(numbers)
    assert warning.startswith("validation: topics/citations: 30 of 120 queries and 30 of 120 ")
    assert f"--data.exclude {folders.topics}" in warning


def test_the_papers_that_give_the_verdict_choose_no_step(corpus, tmp_path):
    ids, citations = corpus.paper_ids(), corpus.citations()
    raw = tmp_path / "raw"
    raw.mkdir()
    papers = [{k: p[k] for k in ("paper_id", "title", "abstract")} for p in corpus.papers()]
    (raw / "papers.jsonl").write_text("\n".join(map(json.dumps, papers)))
    lines = [f"{ids[a]},{ids[b]}" for a, b in citations.tolist()]
    (raw / "citations.csv").write_text("\n".join(["citing,cited", *lines]))
    count = len(corpus.queries("test"))
    assert set(corpus.queries("test")) <= set(citations[:, 0])
    with pytest.raises(UserError, match=f"raw/citations: {count} of its queries have the titles"):
        opened(corpus, raw).check(None)


def test_a_corpus_that_holds_nothing_out_is_not_asked(tmp_path, tiny_bert):
    corpus = write_small_documents(tmp_path / "documents", tiny_bert, [60] * 8)
    with pytest.raises(UserError, match="validation: title_abstract: "):
        opened(corpus, "title_abstract").check(None)


# Scores.


class Module:
    """What scoring asks of a method."""

    def __init__(self, backbone):
        self.encoder = encoder_of(backbone).eval()
        self.device, self.similarity_metadata = torch.device("cpu"), {"similarity": "euclidean"}


def test_no_random_state_is_changed(corpus, folders, tiny_bert):
    benchmarks, module = opened(corpus, "citations", folders.search), Module(tiny_bert)
    numpy_state, torch_state = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    assert benchmarks.check(None) == []
    assert set(benchmarks.scores(module, "fp32")) == set(benchmarks.score_names)
    assert torch.equal(torch.get_rng_state(), torch_state)
    # Python's own generator is left out: beartype, which tests run under, draws from it.
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002
    assert not module.encoder.training
    assert all(parameter.grad is None for parameter in module.encoder.parameters())


def test_scores_are_of_the_weights_of_now(corpus, folders, tiny_bert):
    benchmarks, module = opened(corpus, "citations", folders.search), Module(tiny_bert)
    before = benchmarks.scores(module, "fp32")
    assert benchmarks.scores(module, "fp32") == before
    with torch.no_grad():
        for parameter in module.encoder.parameters():
            parameter.mul_(-3)
    after = benchmarks.scores(module, "fp32")
    assert after != before
    assert after == opened(corpus, "citations", folders.search).scores(module, "fp32")


def test_vectors_that_are_not_finite_have_no_score(corpus, folders, tiny_bert):
    benchmarks, module = opened(corpus, "citations", folders.search), Module(tiny_bert)
    with torch.no_grad():
        next(module.encoder.parameters()).fill_(math.nan)
    scores = benchmarks.scores(module, "fp32")
    assert list(scores) == list(benchmarks.score_names)
    assert all(math.isnan(score) for score in scores.values())


def scores_on_a_rank(corpus, backbone, folder):
    return opened(Corpus.open(corpus), "citations", folder).scores(Module(backbone), "fp32")


@pytest.mark.slow
def test_every_rank_has_the_scores_of_the_first(corpus, folders, tiny_bert):
    expected = opened(corpus, "citations", folders.search).scores(Module(tiny_bert), "fp32")
    arguments = (str(corpus.folder), str(tiny_bert), str(folders.search))
    assert run_ranks(2, __name__, "scores_on_a_rank", *arguments) == [expected, expected]
