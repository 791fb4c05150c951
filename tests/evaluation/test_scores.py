import doctest

from sciembed_train.evaluation import scores
from sciembed_train.evaluation.scores import Scores


def test_the_example_of_the_docstring_is_right():
    assert doctest.testmod(scores).failed == 0


def test_a_metric_that_a_facet_lacks_is_an_empty_cell():
    metrics = {"method/map": 0.5, "method/ndcg": 0.25, "result/map": 1.0}
    lines = str(Scores("csfcube", "m", metrics, {}, {"queries": 2})).splitlines()
    assert lines[2].split() == ["metric", "method", "result"]
    assert lines[3].split() == ["map", "0.5000", "1.0000"]
    assert lines[4].split() == ["ndcg", "0.2500"]


def test_many_tasks_stand_below_each_other():
    metrics = {f"task {i}/map": i / 10 for i in range(8)}
    printed = str(Scores("any", "model", metrics, {}, {"queries": 3}, ("A note.",)))
    assert "task 7/map      0.7000" in printed.splitlines()
    assert printed.endswith("3 queries. A note.")


def test_names_are_escaped_in_a_notebook():
    html = Scores("any", "<b>", {"t/map": 0.5}, {}, {"queries": 1})._repr_html_()
    assert "&lt;b&gt;" in html
    assert "<td>0.5000</td>" in html


def test_notes_are_settings_of_a_results_file():
    content = Scores("any", "m", {}, {}, {"queries": 1}, ("A note.",)).as_dict()
    assert content["settings"] == {"queries": 1, "notes": ["A note."]}
