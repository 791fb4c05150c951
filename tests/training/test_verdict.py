import json
from dataclasses import replace

import numpy as np
import pytest

from sciembed_train.evaluation.significance import Comparison
from sciembed_train.training.verdict import (
    TrainingChoices,
    Verdict,
    advice,
    choose_alpha,
    judge,
)

CHOICES = TrainingChoices("my_start", "checkpoints/own", 3e-5)


def comparison(low, high, queries=345):
    return Comparison(0.4, 0.4 + (low + high) / 2, low, high, 0.03, queries)


def verdict(alpha=1.0, **intervals):
    values = {name: comparison(*interval) for name, interval in intervals.items()}
    return Verdict("citations", "map", values, alpha)


def scores(**gains):
    """Before and after: every query of each name moves by its gain, and a little noise."""
    rng = np.random.default_rng(0)
    before = {name: rng.beta(2, 2, 300) for name in gains}
    after = {name: before[name] + gain + rng.normal(0, 0.02, 300) for name, gain in gains.items()}
    return before, after


@pytest.mark.parametrize(
    ("target", "guard", "outcome"),
    [
        ((0.001, 0.02), (-0.01, 0.01), "BETTER"),
        ((0.001, 0.02), (0.001, 0.01), "BETTER"),
        ((0.001, 0.02), (-0.02, -0.001), "WORSE"),
        ((-0.001, 0.02), (0.01, 0.02), "NO DIFFERENCE"),
        ((0.0, 0.02), (0.01, 0.02), "NO DIFFERENCE"),
        ((-0.01, 0.02), (-0.01, -0.001), "WORSE"),
        ((-0.02, -0.01), (0.01, 0.02), "WORSE"),
    ],
)
def test_worse_wins_over_better_and_nothing_is_said_of_an_interval_around_0(target, guard, outcome):
    assert verdict(citations=target, title_abstract=guard).outcome == outcome


def test_lines_name_outcome_numbers_and_guards():
    better = verdict(citations=(0.005, 0.019), title_abstract=(-0.01, 0.02))
    assert better.line == (
        "VERDICT: BETTER: citations map 0.4000 -> 0.4120: +0.0120 (95% interval +0.0050 to +0.0190,"
        " p = 0.03, 345 queries); no guard significantly lower (title_abstract +0.0050)"
    )
    worse = verdict(citations=(0.005, 0.019), halves=(-0.03, -0.01), titles=(-0.04, -0.02))
    assert worse.line.startswith("VERDICT: WORSE ON halves, titles: halves 0.4000 -> 0.3800: -0.02")
    assert worse.worse_on == ["halves", "titles"]
    assert "; citations map 0.4000 -> 0.4120" in worse.line
    own = verdict(citations=(-0.02, -0.01), titles=(0.0, 0.1))
    assert own.line.startswith("VERDICT: WORSE ON citations: citations map 0.4000 -> 0.3850")
    alone = verdict(citations=(-0.01, 0.01))
    assert alone.line.startswith("VERDICT: NO DIFFERENCE: ")
    assert alone.line.endswith("there were no guards")
    for one in (better, worse, own, alone):
        assert "\n" not in one.line


def test_notes_say_what_can_be_seen_with_so_few_queries():
    few = Verdict("citations", "map", {"citations": comparison(-0.02, 0.04, 12)})
    assert few.notes == [
        "Few queries, so that only large differences show: citations (12).",
        "With 12 queries a difference of citations below about 0.0300 cannot be told from none.",
    ]
    assert verdict(citations=(0.01, 0.02)).notes == []


def test_scores_are_judged_by_the_paired_bootstrap():
    before, after = scores(citations=0.03, titles=0.0, halves=-0.03)
    found = judge(before, after, "citations", "map")
    assert found.line.startswith("VERDICT: WORSE ON halves: ")
    assert list(found.comparisons) == ["citations", "titles", "halves"]
    del before["halves"], after["halves"]
    assert judge(before, after, "citations", "map").outcome == "BETTER"
    with pytest.raises(ValueError, match="expected citations and guards"):
        judge(before, {"citations": after["citations"]}, "citations", "map")
    with pytest.raises(ValueError, match="expected halves"):
        judge(before, after, "halves", "map")


def test_a_verdict_survives_json_with_corrected_p_values():
    before, after = scores(titles=0.0, citations=0.01)
    found = judge(before, after, "citations", "map", alpha=0.4)
    content = json.loads(json.dumps(found.as_dict()))
    again = Verdict.from_dict(content)
    assert (again.line, again.alpha, dict(again.comparisons)) == (
        found.line,
        0.4,
        dict(found.comparisons),
    )
    for one in content["comparisons"].values():
        assert one["p_value"] <= one["p_value_holm"] <= 1
    assert content["outcome"] == found.outcome


def mixtures(target_gain, guard_gain, calls=None):
    """A score function whose target and guard move with alpha as told."""
    before, _ = scores(citations=0, titles=0)

    def score(alpha):
        if calls is not None:
            calls.append(alpha)
        return {
            "citations": before["citations"] + target_gain(alpha),
            "titles": before["titles"] + guard_gain(alpha),
        }

    return score, before


def test_alpha_is_the_best_at_which_no_guard_falls():
    calls = []
    score, before = mixtures(lambda a: 0.05 * a, lambda a: 0.0 if a < 0.7 else -0.02, calls)
    choice = choose_alpha(score, before, "citations")
    assert choice.alpha == 0.6
    assert choice.keeps_guards
    assert calls == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert [point.fallen for point in choice.curve] == [(), (), (), ("titles",), ("titles",)]
    json.dumps(choice.as_dict())


def test_before_a_projection_it_is_the_smallest_that_is_not_surely_below_the_best():
    noise = np.random.default_rng(2).normal(0, 0.1, 300)
    gains = {0.2: -0.02, 0.4: 0.0, 0.6: 0.0, 0.8: 0.004, 1.0: 0.002}

    def gain(alpha):  # as of draws of its own for each share
        return gains[alpha] + np.roll(noise, round(10 * alpha))

    score, before = mixtures(gain, lambda a: 0.0)
    assert choose_alpha(score, before, "citations").alpha == 0.8
    choice = choose_alpha(score, before, "citations", near_start=True)
    assert (choice.alpha, choice.near_start) == (0.4, True)
    # A share at which a guard falls is none, and where it falls at all of them it is the smallest.
    score, before = mixtures(gain, lambda a: -0.02 if a < 0.5 else 0.0)
    assert choose_alpha(score, before, "citations", near_start=True).alpha == 0.6
    score, before = mixtures(gain, lambda a: -0.02)
    assert choose_alpha(score, before, "citations", near_start=True).alpha == 0.2


def test_a_small_but_sure_fall_of_a_guard_is_a_fall_and_a_small_unsure_one_is_none():
    score, before = mixtures(lambda a: a, lambda a: -0.001)  # the same for every query: sure
    assert not choose_alpha(score, before, "citations").keeps_guards
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.2, 300)
    score, before = mixtures(lambda a: a, lambda a: noise - noise.mean() - 0.001)
    assert choose_alpha(score, before, "citations").alpha == 1.0


def test_the_smallest_alpha_where_every_share_loses_a_guard_or_nothing_is_gained():
    score, before = mixtures(lambda a: a, lambda a: -a)
    choice = choose_alpha(score, before, "citations")
    assert (choice.alpha, choice.keeps_guards) == (0.2, False)
    assert "a guard falls with every share" in str(choice)
    score, before = mixtures(lambda a: 0.0, lambda a: 0.0)
    assert choose_alpha(score, before, "citations").alpha == 0.2
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        choose_alpha(score, before, "citations", alphas=(0.0, 1.0))


def test_advice_is_only_on_what_is_worse_and_not_on_what_was_tried():
    assert advice(verdict(citations=(0.01, 0.02)), CHOICES) == []
    worse = verdict(citations=(0.01, 0.02), titles=(-0.02, -0.01))
    first, *others = advice(worse, CHOICES)
    assert first.startswith("train merge my_start checkpoints/own --weights 0.5 0.5")
    assert others[0] == "--model.optim.lr 1.5e-05"
    assert "--model.optim.layer_decay 0.9" in others
    tried = TrainingChoices("s", "r", 2e-5, 0.9, True, 0.999, "cls", "mean")
    merged = verdict(alpha=0.4, citations=(0.01, 0.02), titles=(-0.02, -0.01))
    assert advice(merged, tried) == [
        "--model.encoder.pooling mean, which s was made for",
        "--model.optim.lr 1e-05",
    ]
    projected = replace(tried, projection_share=0.5)
    assert advice(merged, projected)[1].startswith("--projection.share 0.25, or --projection.steps")
    own = advice(verdict(citations=(-0.02, -0.01)), CHOICES)
    assert not any("merge" in text for text in own)


def test_settings_that_are_advised_exist():
    from dataclasses import fields

    from sciembed_train.encoder.settings import EncoderSettings
    from sciembed_train.methods.projection_settings import ProjectionSettings
    from sciembed_train.optim_settings import OptimSettings

    names = {f"model.optim.{field.name}" for field in fields(OptimSettings)}
    names |= {f"projection.{field.name}" for field in fields(ProjectionSettings)}
    names |= {f"model.encoder.{field.name}" for field in fields(EncoderSettings)}
    tried = TrainingChoices(
        "s", "r", 2e-5, pooling="cls", start_pooling="mean", projection_share=0.5
    )
    for text in advice(verdict(citations=(0.0, 1.0), titles=(-2.0, -1.0)), tried):
        if text.startswith("--"):
            assert text.split()[0].removeprefix("--").rstrip(",") in names
