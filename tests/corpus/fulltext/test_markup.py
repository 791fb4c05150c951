# ruff: noqa: RUF001  -- the symbols are meant
import pytest

from sciembed_train.corpus.fulltext.markup import (
    LONGEST_FORMULA,
    plain_formula,
    without_markup,
    without_tex,
    without_unarxive_markup,
)

FORMULAS = {"k": "k", "_3": "_3", "deg": "^{\\circ }", "long": "x=" + "a+" * 30, "le": "i \\le n"}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("holds for all{{cite:a}}.", "holds for all."),
        ("was found {{cite:a}}, {{cite:b}} and {{cite:c}}; then", "was found; then"),
        ("was found [{{cite:a}}-{{cite:b}}] early", "was found early"),
        ("(see {{cite:a}}) it", "(see) it"),
        ("of Roe et al.{{cite:a}}. Next", "of Roe et al. Next"),
        ("said {{cite:a}}, and so on", "said, and so on"),
        ("waves {{formula:k}}  in Fig. {{figure:f}} (a)", "waves k in Fig. (a)"),
        ("the {{formula:k}} -resolved ones", "the k-resolved ones"),
        ("Fe{{formula:_3}} O at 5{{formula:deg}} .", "Fe3 O at 5°."),
        ("so that {{formula:long}} , where", "so that, where"),
        ("for {{formula:le}} we {{table:t}} have {{formula:unknown}} it", "for i ≤ n we have it"),
        ("Fig. REF (b), Eq. (REF ).", "Fig. (b), Eq."),
        ("nothing to do (1, 2) , as it is ...", "nothing to do (1, 2) , as it is ..."),
    ],
)
def test_markers_of_unarxive_become_clean_text(text, clean):
    assert " ".join(without_unarxive_markup(text, FORMULAS).split()) == clean


def test_markers_of_s2orcs_latex_parses_become_clean_text():
    text = "As BIBREF0 , BIBREF12 show, INLINEFORM0 holds (FIGREF3 ): DISPLAYFORM0 for REF."
    formulas = {"INLINEFORM0": "\\alpha _i", "DISPLAYFORM0": "b=" * 40}
    clean = " ".join(without_markup(text, formulas).split())
    assert clean == "As show, α_i holds: for REF."


@pytest.mark.parametrize(
    ("latex", "plain"),
    [
        ("\\lambda _i", "λ_i"),
        ("\\Lambda ^{2}", "Λ^2"),
        ("\\varepsilon \\ne -2", "ε ≠ -2"),
        ("\\mathbb {C}^{N+1}", "C^(N+1)"),
        ("10^{-16}", "10^(-16)"),
        ("\\frac{c_1}{3}", "c_1/3"),
        ("\\frac{1}{\\frac{a}{b}}", "1/a/b"),
        ("30^\\circ C", "30°C"),
        ("\\mathbf {P}^{\\prime }", "P'"),
        ("\\lbrace a,b\\rbrace", "{a, b}"),
        ("\\left( \\text{max} \\, x \\right)", "(max x)"),
        ("5~\\mu \\mathrm{m}", "5 μ m"),
        ("50\\%", "50%"),
        ("\\sin \\theta", "sin θ"),
        ("{\\mathcal {U}^{}}", "U"),
        ("\\unknowncommand{x}", "x"),
        ("", ""),
    ],
)
def test_a_formula_is_written_in_plain_characters(latex, plain):
    assert plain_formula(latex) == plain


def test_a_formula_stays_up_to_the_longest():
    for n, present in ((LONGEST_FORMULA, True), (LONGEST_FORMULA + 1, False)):
        clean = without_markup("a {{formula:f}} b", {"f": "x" * n})
        assert ("x" in clean) == present


def test_titles_and_abstracts_of_arxiv_lose_their_tex():
    assert without_tex("The K\\\"unneth Moir\\'{e} caf\\'e") == "The Künneth Moiré café"
    assert without_tex("WSe$_{2}$ at $\\alpha$ = 3") == "WSe2 at α = 3"
    assert without_tex("costs $5 each") == "costs $5 each"
    assert without_tex("the ``cube files'' of it") == 'the "cube files" of it'


@pytest.mark.parametrize("text", ["{{" * 20000, "{{cite:" * 9000, "(" * 50000 + "{{cite:a}}"])
def test_broken_markers_are_left_and_take_no_time(text):
    without_unarxive_markup(text, {})
    plain_formula(text)
    plain_formula("\\frac{" * 3000)
