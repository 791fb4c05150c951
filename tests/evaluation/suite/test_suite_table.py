import csv
import io
from dataclasses import replace

import numpy as np
import pytest

from sciembed_train.evaluation.scores import Scores
from sciembed_train.evaluation.significance import compare, holm, mean_score
from sciembed_train.evaluation.suite.entries import Entry, Suite
from sciembed_train.evaluation.suite.run_suite import SuiteScores
from sciembed_train.evaluation.suite.stored_forms import StoredForm
from sciembed_train.evaluation.suite.suite_page import suite_page
from sciembed_train.evaluation.suite.suite_table import (
    as_csv,
    as_dict,
    as_markdown,
    as_text,
    short_names,
    suite_rows,
)

RNG = np.random.default_rng(0)
START = {f"q{at}": float(x) for at, x in enumerate(RNG.random(60))}
GAIN = RNG.normal(0.1, 0.05, 60)
NOISE = RNG.normal(0, 0.05, 60)


def scores(model, benchmark, metric, values, warning=None):
    per_query = {query: {metric: value} for query, value in values.items()}
    mean = float(np.mean(list(values.values())))
    metrics = {f"{benchmark}/{metric}": mean}
    return Scores(benchmark, model, metrics, per_query, {"queries": 60}, (), warning)


@pytest.fixture
def found(tmp_path):
    better = {q: v + g for (q, v), g in zip(START.items(), GAIN, strict=True)}
    same = {q: v + n for (q, v), n in zip(START.items(), NOISE, strict=True)}
    entries = [Entry("mine", "citations", tmp_path), Entry("plain", "title_abstract", tmp_path)]
    table = {
        ("mine", "a/start"): scores("a/start", "citations", "map", START),
        ("mine", "b/tuned"): scores("b/tuned", "citations", "map", better),
        ("plain", "a/start"): scores("a/start", "title_abstract", "mrr", START),
        ("plain", "b/tuned"): scores("b/tuned", "title_abstract", "mrr", same, "trained on"),
    }
    skipped = {("tasks", "bm25"): "has no vectors"}
    return SuiteScores(
        Suite(entries, ["other"], ["csfcube"]), ["a/start", "b/tuned", "bm25"], table, skipped
    )


def test_intervals_and_p_values_are_those_of_significance(found):
    first, second = suite_rows(found)
    before = list(START.values())
    after = {q: v + g for (q, v), g in zip(START.items(), GAIN, strict=True)}
    pairs = [[values[q] for q in sorted(START)] for values in (START, after)]
    assert first.cells["a/start"].mean == mean_score(before)
    assert first.cells["a/start"].comparison is None
    assert first.cells["b/tuned"].comparison == compare(*pairs)
    tuned = [row.cells["b/tuned"] for row in (first, second)]
    p_values = {str(at): cell.comparison.p_value for at, cell in enumerate(tuned)}
    assert [cell.p_holm for cell in tuned] == list(holm(p_values).values())
    assert first.cells["b/tuned"].mark == "+"
    assert second.cells["b/tuned"].mark == ""
    assert first.cells["b/tuned"].best
    assert not first.cells["a/start"].best
    assert "bm25" not in first.cells


def test_holm_makes_a_row_of_many_insignificant(tmp_path):
    """A p-value of about .03 is significant alone and not among ten."""
    after = {q: v + n + 0.0175 for (q, v), n in zip(START.items(), NOISE, strict=True)}
    for count, marked in ((1, True), (10, False)):
        entries = [Entry(f"e{at}", "citations", tmp_path) for at in range(count)]
        table = {
            (entry.name, model): scores(model, "citations", "map", values)
            for at, entry in enumerate(entries)
            for model, values in (("a", START), ("b", after if at == 0 else START))
        }
        rows = suite_rows(SuiteScores(Suite(entries), ["a", "b"], table, {}))
        assert 0.001 < rows[0].cells["b"].comparison.p_value < 0.05
        assert bool(rows[0].cells["b"].mark) == marked
        assert len(rows) == count


def test_the_table_says_everything_in_every_form(found):
    rows = suite_rows(found)
    text = as_text(found, rows)
    lines = text.splitlines()
    assert lines[0].split() == ["benchmark", "metric", "start", "tuned", "bm25"]
    value = np.mean([v + g for v, g in zip(START.values(), GAIN, strict=True)])
    start = np.mean([*START.values()])
    assert lines[1].split() == ["mine", "map", f"{start:.4f}", f"{value:.4f}+", "-"]
    assert "bm25 has no vectors: not scored on tasks." in text
    assert "warning: plain, tuned: trained on" in text
    assert "Nothing is recognised in other." in text
    assert "csfcube: github.com/iesl/CSFCube" in text
    assert "\033[1m" not in text
    assert f"\033[1m{value:.4f}+\033[0m" in as_text(found, rows, bold=True)
    assert f"**{value:.4f}** (" in as_markdown(found, rows)
    table = list(csv.DictReader(io.StringIO(as_csv(found, rows))))
    assert len(table) == 4
    assert float(table[1]["difference"]) == pytest.approx(GAIN.mean())
    assert table[0]["p"] == ""
    content = as_dict(found, rows)
    assert content["rows"][1]["low"] < content["rows"][1]["value"] < content["rows"][1]["high"]
    assert content["skipped"] == [{"benchmark": "tasks", "model": "bm25", "why": "has no vectors"}]


@pytest.fixture
def stored(found):
    """Of the first model 0.9 of each score is kept, of the second a little more than it had."""
    table = dict(found.scores)
    for entry, benchmark, metric in (
        ("mine", "citations", "map"),
        ("plain", "title_abstract", "mrr"),
    ):
        for model, factor in (("a/start", 0.9), ("b/tuned", 1.001)):
            whole = table[entry, model]
            values = {query: factor * row[metric] for query, row in whole.per_query.items()}
            table[entry, f"{model} 8 int8"] = scores(
                model, benchmark, metric, values, whole.warning
            )
    models = ["a/start", "a/start 8 int8", "b/tuned", "b/tuned 8 int8", "bm25"]
    form = StoredForm(8, "int8")
    columns = {f"{model} 8 int8": (model, form) for model in ("a/start", "b/tuned")}
    return replace(found, models=models, scores=table, stored=columns)


def test_stored_forms_stand_beside_their_models_with_what_they_keep(stored):
    rows = suite_rows(stored)
    cells = rows[0].cells
    assert cells["a/start 8 int8"].kept == pytest.approx(0.9)
    assert cells["b/tuned 8 int8"].kept == pytest.approx(1.001)
    assert cells["a/start"].kept is None
    assert cells["b/tuned"].best  # the form that is a little higher is no model
    assert not cells["b/tuned 8 int8"].best
    assert cells["a/start 8 int8"].mark == "-"  # all of its queries lose
    text = as_text(stored, rows)
    lines = text.splitlines()
    assert lines[0].split() == [
        *("benchmark", "metric", "start", "start", "8", "int8", "tuned", "tuned", "8", "int8"),
        "bm25",
    ]
    start = np.mean([*START.values()])
    assert f"{0.9 * start:.4f}- 90.0%" in lines[1]
    assert "8 int8 behind a model's name: its vectors cut" in text
    assert "Of bm25 there is no vector of a text to cut or store." in text
    assert text.count("warning: ") == 1
    assert f"{0.9 * start:.4f} (" in as_markdown(stored, rows)
    assert "- 90.0% |" in as_markdown(stored, rows)
    table = list(csv.DictReader(io.StringIO(as_csv(stored, rows))))
    assert [(row["model"], row["dim"], row["dtype"]) for row in table[:2]] == [
        ("a/start", "", ""),
        ("a/start", "8", "int8"),
    ]
    assert float(table[1]["kept"]) == pytest.approx(0.9)
    assert table[0]["kept"] == ""
    content = as_dict(stored, rows)
    assert content["models"] == ["a/start", "b/tuned", "bm25"]
    assert content["rows"][1]["kept"] == pytest.approx(0.9)
    page = suite_page(stored, rows)
    assert f"{0.9 * start:.4f}- 90.0%" in page
    assert "<h2>tuned beside start</h2>" in page


def test_nothing_is_kept_of_a_score_that_is_not_above_zero(stored):
    nothing = scores("a/start", "citations", "map", dict.fromkeys(START, 0.0))
    rows = suite_rows(replace(stored, scores={**stored.scores, ("mine", "a/start"): nothing}))
    assert rows[0].cells["a/start 8 int8"].kept is None


def test_models_are_named_by_what_tells_them_apart():
    assert short_names(["runs/a/export", "runs/b/export"]) == {
        "runs/a/export": "a/export",
        "runs/b/export": "b/export",
    }
    assert short_names(["x/y", "bm25"]) == {"x/y": "y", "bm25": "bm25"}


def test_published_scores_are_shown_on_request(found, tmp_path):
    assert "Published" not in as_text(found, suite_rows(found))
    suite = Suite([Entry("cube", "csfcube", tmp_path)])
    asked = SuiteScores(suite, ["a"], {}, {}, published=True)
    text = as_text(asked, [])
    assert "Published, and not measured here:" in text
    assert "  csfcube map_grade2: 0.3423 SPECTER (allenai/" in text
    assert "relish" not in text
    (first, *_) = as_dict(asked, [])["published"]
    assert first["benchmark"] == "csfcube"
    assert first["source"]
