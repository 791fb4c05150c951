import json

from sciembed_train.training.results_file import NAME, read_results
from sciembed_train.training.verdict import Verdict
from tests.helpers.verdict_results import LOSS, write_results


def test_results_survive_json(tmp_path):
    results = write_results()
    assert read_results(tmp_path) is None
    (tmp_path / NAME).write_text(json.dumps(results.as_dict()))
    content = read_results(tmp_path)
    assert content == json.loads(json.dumps(results.as_dict()))
    assert Verdict.from_dict(content["verdict"]).line == results.verdict.line
    assert content["alpha"]["curve"][1]["fallen"] == ["my <guard>"]


def test_a_file_that_is_none_is_not_read(tmp_path):
    for text in ("{", "[]", '{"other": 1}'):
        (tmp_path / NAME).write_text(text)
        assert read_results(tmp_path) is None


def test_an_export_keeps_scores_and_alpha_alone():
    card = write_results(LOSS, advice=["train merge /data/me/x"], notes=["n"]).for_card()
    assert card["outcome"] == "WORSE"
    assert card["alpha"] == 0.4
    assert card["scores"]["citations"] == {
        **{"metric": "map", "before": 0.3, "after": 0.34, "low": 0.01, "high": 0.07},
        **{"queries": 345, "bm25": 0.25},
    }
    assert card["scores"]["my <guard>"]["bm25"] is None
    assert "/data" not in json.dumps(card)
