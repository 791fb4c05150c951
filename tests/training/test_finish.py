"""Runs that end with a verdict: from the start encoder's scores to the last line."""

import contextlib
import html
import io
import json

import numpy as np
import pytest
import torch

import sciembed_train as st
from sciembed_train.cli import main
from sciembed_train.commands import fit
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.training_titles import read_titles
from sciembed_train.export.checkpoint_file import load_checkpoint
from sciembed_train.inference.options import EmbedSettings, ScoreSettings
from sciembed_train.training.run import Run
from tests.helpers.runs import CONFIGS, finish, losses, rows, start
from tests.helpers.topic_papers import write_search, write_topic_corpus

RECIPES = {
    "own": "own_citations",
    "specter": "specter",
    "cocite": "aspire_cocite_compsci_spec",
}


@pytest.fixture(scope="module")
def place(tiny_bert, tmp_path_factory):
    """A corpus that all three recipes can be trained on."""
    return write_topic_corpus(tmp_path_factory.mktemp("topics"), tiny_bert)


def words(place, backbone, recipe, run, *more):
    return [
        *("-c", str(CONFIGS / f"{RECIPES[recipe]}.yaml")),
        *("--data.corpus", str(place / "corpus"), "--model.encoder.backbone", str(backbone)),
        *("--model.encoder.max_length", "64", "--model.encoder.input_format.separator", "sep"),
        *("--model.encoder.input_format.sentences", "joined"),
        *("--model.encoder.dropout", "0", "--data.batch_size", "16", "--model.optim.lr", "2e-3"),
        *(("--model.optim.warmup_steps", "0") if recipe == "cocite" else ()),
        *("--trainer.max_steps", "8", "--trainer.val_check_interval", "4"),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "1"),
        *("--trainer.precision", "32-true", "--trainer.log_every_n_steps", "1"),
        *(() if "--alphas" in more or recipe != "own" else ("--alphas", "[0.2, 0.6, 1.0]")),
        *("--root", str(place / "runs"), "--run", run, *more),
    ]


def results_of(run):
    return json.loads((run / "results.json").read_text())


@pytest.fixture(scope="module")
def own(place, tiny_bert):
    """A run of `own_citations`, and what it printed on both streams."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        more = words(place, tiny_bert, "own", "own", "--guards", str(guard(place)))
        assert fit.main(more) == 0
    return place / "runs" / "own", printed.getvalue()


def guard(place):
    folder = place / "my_search"
    return folder if folder.is_dir() else write_search(folder)


def test_the_last_line_is_the_verdict_and_all_places_agree(own, place, tiny_bert):
    run, printed = own
    results = results_of(run)
    line = printed.splitlines()[-1]
    assert line == results["verdict"]["line"] == Run.open(run).verdict
    assert line.startswith("VERDICT: BETTER: citations map 0.")
    comparisons = results["verdict"]["comparisons"]
    assert list(comparisons) == ["citations", "title_abstract", "abstract_halves", "my_search"]
    for place_of in ("report.html", "export/README.md"):
        text = html.unescape((run / place_of).read_text())
        assert line in text, place_of
        for name, scores in comparisons.items():
            assert name in text
            assert f"{scores['before']:.4f}" in text
            assert f"{scores['after']:.4f}" in text
    record = json.loads((run / "export" / "sciembed.json").read_text())["verdict"]
    assert record["alpha"] == results["verdict"]["alpha"] == results["alpha"]["alpha"]
    assert record["scores"]["citations"]["after"] == comparisons["citations"]["after"]
    assert str(place) not in json.dumps(record), "the card names a folder of this machine"
    for name, scores in comparisons.items():
        rows = results["queries"][name].values()
        assert scores["queries"] == len(rows) >= 5
        assert sum(before for before, _ in rows) / len(rows) == pytest.approx(scores["before"])
        assert sum(after for _, after in rows) / len(rows) == pytest.approx(scores["after"])


def test_the_summary_says_what_a_person_needs_next(own, place):
    run, printed = own
    results = results_of(run)
    lines = printed.splitlines()
    best = next(line for line in lines if line.startswith("best:"))
    assert f"step {results['run']['step']} of 8, val/map {results['run']['score']:.4f}" in best
    table = next(line for line in lines if line.startswith("citations map"))
    own_scores = results["verdict"]["comparisons"]["citations"]
    for value in (own_scores["before"], own_scores["after"], results["bm25"]["citations"]):
        assert f"{value:.4f}" in table
    assert f"export:  {run / 'export'}" in lines
    assert f"report:  {run / 'report.html'}" in lines
    assert any(f"embed --model {run}" in line for line in lines)


def test_scores_are_those_of_evaluate_on_the_start_the_export_and_bm25(own, place, tiny_bert):
    run, _ = own
    results = results_of(run)
    scores = results["verdict"]["comparisons"]["citations"]
    corpus = place / "corpus"
    assert st.evaluate("bm25", "citations", corpus)["citations/map"] == pytest.approx(
        results["bm25"]["citations"]
    )
    assert st.evaluate(run / "export", "citations", corpus)["citations/map"] == pytest.approx(
        scores["after"], abs=1e-6
    )
    score = {"score": ScoreSettings(similarity="cosine")}
    embed = {"embed": EmbedSettings(pooling="mean", max_length=64)}
    before = st.evaluate(tiny_bert, "citations", corpus, **score, **embed)
    assert before["citations/map"] == pytest.approx(scores["before"], abs=1e-6)


def test_dev_queries_choose_and_test_queries_judge(own, place):
    run, _ = own
    kept = json.loads((run / "start_scores.json").read_text())
    corpus = Corpus.open(place / "corpus")
    ids = corpus.paper_ids()
    for split in ("dev", "test"):
        held_out = {ids[i] for i in corpus.queries(split)}
        for name in ("citations", "title_abstract", "abstract_halves"):
            assert set(kept[split]["scores"][name]) <= held_out
    both = (set(kept[split]["scores"]["my_search"]) for split in ("dev", "test"))
    assert not set.intersection(*both)
    assert set(results_of(run)["queries"]["citations"]) == set(kept["test"]["scores"]["citations"])


def test_the_report_shows_curve_and_neighbours(own):
    run, _ = own
    results, text = results_of(run), (run / "report.html").read_text()
    assert len(results["neighbours"]) == 10
    for row in results["neighbours"]:
        assert row["title"] in text
        assert len(row["before"]) == len(row["after"]) == 5
        assert row["before"] != row["after"] or len(results["neighbours"]) > 1
    assert 'aria-label="citations by % of trained weights"' in text
    cited = [paper for row in results["neighbours"] for paper in row["after"] if paper["cited"]]
    assert cited
    assert all(f"<b>{paper['title']}</b>" in text for paper in cited)


def test_the_export_has_the_chosen_share_of_the_trained_weights(place, tiny_bert, capsys):
    more = ["--alphas", "[0.25]", "--quiet", "--model.matryoshka_dims", "[8]"]
    assert fit.main(words(place, tiny_bert, "specter", "quarter", *more)) == 0
    run = place / "runs" / "quarter"
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [results_of(run)["verdict"]["line"]]
    assert results_of(run)["verdict"]["alpha"] == 0.25
    widths = results_of(run)["run"]["widths"]
    assert list(widths) == ["val/map", "val/map_8"]
    step = results_of(run)["run"]["step"]
    (row,) = (row for row in rows(run) if int(row["step"]) == step and row["val/map"])
    assert widths == {name: float(row[name]) for name in ("val/map", "val/map_8")}
    exported = Encoder.load(run / "export").state_dict()
    begun = Encoder.load(tiny_bert).state_dict()
    trained = load_checkpoint(run / "best.ckpt")["state_dict"]
    moved = 0.0
    for key, value in exported.items():
        expected = 0.75 * begun[key].double() + 0.25 * trained[f"encoder.{key}"].double()
        assert torch.allclose(value.double(), expected, atol=1e-7), key
        moved = max(moved, (trained[f"encoder.{key}"] - begun[key]).abs().max().item())
    assert moved > 1e-3
    # `export` of the run gives the same encoder and card, and only that.
    again = st.export_encoder(run, place / "again").folder
    for key, value in Encoder.load(again).state_dict().items():
        assert torch.equal(value, exported[key]), key
    titles = read_titles(run / "export")
    assert len(titles) > 10
    assert np.array_equal(read_titles(again), titles)
    for name in ("README.md", "sciembed.json"):
        assert "0.25" in (again / name).read_text()
    resumed = words(place, tiny_bert, "specter", "quarter", "--trainer.max_steps", "12")
    assert main(["fit", *resumed, "--ckpt_path", str(run / "final.ckpt")]) == 2
    assert "Continue the run with --ckpt_path last" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["specter", pytest.param("cocite", marks=pytest.mark.slow)])
def test_methods_with_a_ranking_end_with_a_verdict(place, tiny_bert, recipe, capsys):
    assert fit.main(words(place, tiny_bert, recipe, recipe)) == 0
    run = place / "runs" / recipe
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1] == results_of(run)["verdict"]["line"]
    assert captured.out.startswith("VERDICT: ")
    assert results_of(run)["alpha"] is None  # published recipes export what was trained
    assert results_of(run)["verdict"]["alpha"] == 1


def test_the_verdict_changes_nothing_of_the_training(place, tiny_bert, own, capsys):
    run, _ = own
    assert fit.main(words(place, tiny_bert, "own", "off", "--verdict", "off", "--no_export")) == 0
    off = place / "runs" / "off"
    assert "VERDICT" not in capsys.readouterr().out
    assert not (off / "results.json").exists()
    assert not (off / "start_scores.json").exists()
    assert losses(off) == losses(run)


@pytest.mark.slow
def test_a_resumed_run_does_not_score_the_start_again(place, tiny_bert, capsys):
    stop = ["--trainer.callbacks", "tests.helpers.runs.StopAt", "--trainer.callbacks.step", "2"]
    stop += ["--alphas", "[0.5, 1.0]"]
    assert fit.main(words(place, tiny_bert, "own", "resumed", *stop)) == 143
    cache = place / "runs" / "resumed" / "start_scores.json"
    kept = json.loads(cache.read_text())
    query = next(iter(kept["test"]["scores"]["citations"]))
    kept["test"]["scores"]["citations"][query] = 0.125  # a mark that no model gives
    cache.write_text(json.dumps(kept))
    capsys.readouterr()
    again = words(place, tiny_bert, "own", "resumed", "--ckpt_path", "last", *stop[-2:])
    assert fit.main(again) == 0
    printed = capsys.readouterr()
    assert "scoring the start encoder" not in printed.err
    results = results_of(place / "runs" / "resumed")
    assert results["queries"]["citations"][query][0] == 0.125
    # All is done: the verdict is printed again, and nothing is scored.
    assert fit.main(again) == 0
    once_more = capsys.readouterr()
    assert once_more.out == printed.out
    assert "scoring" not in once_more.err
    # The verdict of a run that was killed after its last step is given then.
    (place / "runs" / "resumed" / "results.json").unlink()
    assert fit.main(again) == 0
    assert capsys.readouterr().out == printed.out


def test_test_queries_among_those_that_choose_end_the_run(place, tiny_bert, monkeypatch):
    queries = Corpus.queries
    monkeypatch.setattr(Corpus, "queries", lambda self, split: queries(self, "test"))
    with pytest.raises(RuntimeError, match="queries of citations are dev and test queries"):
        fit.main(words(place, tiny_bert, "own", "leak", "--quiet"))


@pytest.mark.slow
def test_a_worse_encoder_leaves_with_0_and_names_settings_to_try(place, tiny_bert, capsys):
    destroyed = ["--model.optim.lr", "1", "--alphas", "[1.0]", "--no_export"]
    assert main(["fit", *words(place, tiny_bert, "own", "worse", *destroyed)]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1].startswith("VERDICT: WORSE ON ")
    assert "try:     " in printed.err
    assert "--model.optim.lr 0.5" in printed.err
    results = results_of(place / "runs" / "worse")
    assert "--model.optim.lr 0.5" in results["advice"]
    assert "--model.optim.lr 0.5" in (place / "runs" / "worse" / "report.html").read_text()


@pytest.mark.slow
def test_two_ranks_give_the_same_verdict(own, place, tiny_bert):
    run, _ = own
    more = ["--trainer.devices", "2", "--guards", str(guard(place))]
    code, printed = finish(start("fit", *words(place, tiny_bert, "own", "two", *more)))
    assert code == 0, printed
    two, one = results_of(place / "runs" / "two"), results_of(run)
    assert printed.splitlines()[-1] == two["verdict"]["line"]
    assert printed.count("VERDICT: ") == 1
    assert two["verdict"]["outcome"] == one["verdict"]["outcome"]
    assert two["verdict"]["alpha"] == one["verdict"]["alpha"]
    for name, scores in one["verdict"]["comparisons"].items():
        assert two["verdict"]["comparisons"][name]["before"] == scores["before"]
        assert two["verdict"]["comparisons"][name]["after"] == pytest.approx(
            scores["after"], abs=0.01
        )


def test_a_corpus_without_test_queries_is_trained_without_a_verdict(place, tiny_bert, capsys):
    st.prepare(
        place / "no_test",
        papers=place / "papers.jsonl",
        citations=place / "citations.csv",
        tokenizer=str(tiny_bert),
        dev_share=0.25,
        test_share=0.0,
    )
    more = ["--data.corpus", str(place / "no_test"), "--no_export"]
    assert fit.main(words(place, tiny_bert, "specter", "no_test", *more)) == 0
    printed = capsys.readouterr()
    assert "VERDICT" not in printed.out
    assert "There is no verdict: " in printed.err
    assert "no query papers in its test split" in printed.err


def test_a_guard_that_is_no_folder_is_refused_before_the_first_step(place, tiny_bert):
    words_of = words(place, tiny_bert, "specter", "no_guard", "--guards", str(place / "none"))
    assert main(["fit", *words_of]) == 2
    assert not (place / "runs" / "no_guard" / "last.ckpt").exists()
