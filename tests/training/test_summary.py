from pathlib import Path

from sciembed_train.training.summary import summary_lines, width_lines
from sciembed_train.training.verdict import AlphaChoice
from tests.helpers.verdict_results import LOSS, write_results

RUN = Path("checkpoints/r")


def lines(results, exported=True):
    return list(summary_lines(results.as_dict(), RUN, exported))


def test_a_person_sees_step_scores_files_and_what_to_do_next():
    shown = lines(write_results())
    assert "best:    step 200 of 400, val/map 0.3312 (best.ckpt)" in shown
    assert any(line.startswith("weights: 0.4 trained, the rest the start's") for line in shown)
    row = next(line for line in shown if line.startswith("citations map"))
    assert row.split() == [
        *("citations", "map", "0.3000", "0.3400", "0.2500", "+0.0400"),
        *("(+0.0100", "to", "+0.0700)", "345"),
    ]
    assert "export:  checkpoints/r/export" in shown
    assert "report:  checkpoints/r/report.html" in shown
    assert any("embed --model checkpoints/r" in line for line in shown)
    assert not any(line.startswith("try:") for line in shown)


def test_settings_to_try_stand_where_it_is_worse():
    shown = lines(write_results(LOSS, advice=["--model.optim.lr 1e-05", "--model.optim.ema 0.999"]))
    at = shown.index("try:     --model.optim.lr 1e-05")
    assert shown[at + 1] == "         --model.optim.ema 0.999"


def test_nothing_is_named_that_is_not_there():
    results = write_results(alpha=1, choice=None, choice_note="adapters were trained", bm25={})
    results.run["score"] = None
    shown = lines(results, exported=False)
    assert "best:    step 200 of 400 (best.ckpt)" in shown
    assert "weights: as trained, none of the start's: adapters were trained" in shown
    assert not any("export" in line for line in shown)
    half = write_results(alpha=0.5, choice=None, choice_note="there are no dev queries")
    assert "weights: 0.5 trained, the rest the start's: there are no dev queries" in lines(half)


def test_a_whole_share_is_the_weights_as_trained():
    whole = write_results(alpha=1, choice=AlphaChoice(1.0, True, {}, ()))
    assert "weights: as trained, by dev queries" in lines(whole)


def test_the_scores_of_trained_widths_stand_below_the_best_step():
    results = write_results()
    assert not any(line.startswith("widths:") for line in lines(results))
    results.run["widths"] = {"val/map": 0.5, "val/map_64": 0.475, "val/map_8": 0.0}
    shown = lines(results)
    scores = ["val/map 0.5000", "val/map_64 0.4750 (95.0% of it)", "val/map_8 0.0000 (0.0% of it)"]
    assert shown[2] == f"widths:  {', '.join(scores)}"
    nothing = dict.fromkeys(results.run["widths"], 0.0)
    assert list(width_lines(nothing)) == [
        "widths:  val/map 0.0000, val/map_64 0.0000, val/map_8 0.0000"
    ]
