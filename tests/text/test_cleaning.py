# ruff: noqa: RUF001 - letters of other scripts are what it is about
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sciembed_train.text.cleaning import CLEANED, cleaned, is_blank, is_placeholder

EXAMPLES = [
    ("H<sub>2</sub>O at 10<sup>5</sup> Pa", "H2O at 10^5 Pa"),
    ("<i>In vivo</i> effects of <b>A</b>", "In vivo effects of A"),
    ("&lt;i&gt;E. coli&lt;/i&gt; &amp; friends", "E. coli & friends"),
    ("&amp;lt; 5 &#x3b1; &#946;-cells caf&eacute;", "< 5 α β-cells café"),
    ("<p>One.</p><p>Two.</p>", "One. Two."),
    ("<jats:p>An abstract</jats:p>", "An abstract"),
    ('<a href="http://x.org/?a=1">A link</a>', "A link"),
    (
        '<mml:math xmlns:mml="u"><mml:msub><mml:mi>x</mml:mi><mml:mn>2</mml:mn></mml:msub>'
        "</mml:math> plane",
        "x2 plane",
    ),
    ("<math><mi>a</mi><annotation>a tex</annotation></math>b", "ab"),
    (r"$\alpha$-decay of $^{12}$C", "α-decay of ^12C"),
    (r"An $O(n \log n)$ bound", "An O(n log n) bound"),
    (r"$\frac{1}{2}$ and $\frac{a}{\sqrt{b}}$", "1/2 and a/√b"),
    (r"Bundles for $\SL (n)$ and the $\cN=4$ theory", "Bundles for SL (n) and the cN=4 theory"),
    (r"$\left( \bar{x} \right)$ in ${\bf P}^2$", "( x ) in P^2"),
    (r"{\it Ab initio} by {\bf name}", "Ab initio by name"),
    ("The $p$-adic case", "The p-adic case"),
    (r"\(x^{2}\) and $x_{i}$", "x^2 and xi"),
    (r"M\"uller, Erd\H{o}s, G{\"o}del and \'{E}t\'e", "Müller, Erdős, Gödel and Été"),
    (r"Stra{\ss}e and \o{}re", "Straße and øre"),
    (r"\emph{Ab initio} {B}ayesian {DNA}", "Ab initio Bayesian DNA"),
    (r"Gains of 5\% \& more", "Gains of 5% & more"),
    ("zero\u200bwidth \ufeffand\x00 control", "zerowidth and control"),
]
PLAIN = [
    "p < 0.05 and n > 3",
    "a <b and c> d",
    "if x<i>y then",
    "costs $5 and $6",
    "US$5-US$6 or $100,000",
    "from $A to B$ and",
    r"C:\temp\new and \foo{x}",
    "AT&T; R&D, Q&A",
    "the set {a, b} and {x}",
    "[SEP] <s> </s> <mask>",
    "x_1 and y^2",
    r"don\'t, it\'s and \"quoted\" \'words\'",
    "  two  spaces ",
    "می\u200cخواهم",
]


@pytest.mark.parametrize(("markup", "plain"), EXAMPLES)
def test_markup_becomes_the_text_that_it_spells(markup, plain):
    assert cleaned(markup) == " ".join(plain.split())
    assert cleaned(cleaned(markup)) == cleaned(markup)


@pytest.mark.parametrize("text", PLAIN)
def test_ordinary_text_is_left_alone(text):
    assert cleaned(text) == text


PIECES = st.sampled_from(
    [
        *("<b>", "</b>", "<i", ">", "&lt;", "&amp;", "amp;", "gt;", "$", "$$", "\\alpha", "{", "}"),
        *("\\", "^", "_", "<sup>", "</sup>", "<!--", "-->", "<p>", "\\(", "\\)", "\\'", "e", "5"),
        *(" ", "\u200b", "&#36;", "<![CDATA[", "]]>", "\\emph{", "{A}", "\\%", "&#92;"),
    ]
)


@given(st.lists(st.one_of(PIECES, st.text(max_size=4)), max_size=25).map("".join))
def test_cleaning_twice_is_cleaning_once(text):
    once = cleaned(text)
    assert cleaned(once) == once


@given(st.text(st.characters(exclude_characters="<&$\\{", exclude_categories=("Cc", "Cf", "Cs"))))
def test_a_text_without_signs_of_markup_is_returned_as_it_is(text):
    assert cleaned(text) == text


@pytest.mark.parametrize(
    "text",
    ["n/a", "N/A.", "No abstract available.", "[No Abstract]", " none ", "Abstract not available"],
)
def test_what_only_says_that_there_is_no_text_is_a_placeholder(text):
    assert is_placeholder(text)


@pytest.mark.parametrize("text", ["No abstract algebra", "Nature", "none of the above", "a" * 999])
def test_a_text_that_says_more_is_none(text):
    assert not is_placeholder(text)


def test_zero_width_and_control_characters_are_no_text():
    assert is_blank("\u200b\ufeff\x00 \u200d\n")
    assert is_blank("")
    assert not is_blank("\u200ba")
    assert is_blank(cleaned("<b> </b>"))


@pytest.mark.parametrize(
    "piece",
    ["<style>", "<!--", "&amp;", "amp;", "&#38;", "$x", "\\(", "{\\bf ", "<i", "<b>", "\\frac{"],
)
def test_a_long_hostile_text_ends(piece):
    """Each rule looks ahead a bounded way, so that no repetition costs its square."""
    text = piece * (CLEANED // len(piece))
    assert len(cleaned(text)) <= len(text)
    assert cleaned("a" * CLEANED + "<b>x</b>").endswith("<b>x</b>")
