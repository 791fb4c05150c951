import re

from sciembed_train.training.verdict_panels import verdict_panels
from tests.helpers.verdict_results import LOSS, write_results


def page(results):
    return "\n".join(verdict_panels(results.as_dict()))


def test_a_run_without_results_has_no_panel():
    assert verdict_panels(None) == []


def test_verdict_scores_curve_and_neighbours_are_drawn():
    text = page(write_results())
    assert '<p class="verdict BETTER">VERDICT: BETTER: citations map 0.3000 -&gt; 0.3400' in text
    assert "<td>+0.0100 to +0.0700</td>" in text
    assert "pooling mean, at most 256 tokens, compared by cosine" in text
    assert "Guards fall at 1: my &lt;guard&gt;." in text
    curve = re.search(
        r'<svg [^>]*aria-label="citations by % of trained weights".*?</svg>', text, re.S
    )
    assert curve
    assert "<title>% of trained weights 0: 0.3</title>" in curve[0]
    assert "<title>% of trained weights 40: 0.33</title>" in curve[0]
    assert text.count("<li><b>Near &amp; &lt;far&gt;</b></li>") == 2
    assert "<guard>" not in text


def test_a_worse_encoder_has_settings_to_try():
    text = page(write_results(LOSS, advice=["--model.optim.lr 1e-05"]))
    assert 'class="verdict WORSE"' in text
    assert "<li><code>--model.optim.lr 1e-05</code></li>" in text
    text = page(write_results(alpha=1, choice=None, choice_note="adapters were trained"))
    assert "The weights are as trained: adapters were trained." in text
    assert "<svg" not in text
    text = page(write_results(alpha=0.5, choice=None, choice_note="there are no dev queries"))
    assert "The weights are 0.5 of the trained and the rest the start's: there are no" in text
