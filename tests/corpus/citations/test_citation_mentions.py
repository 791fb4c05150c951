import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sciembed_train.corpus.citations.citation_mentions import mask_mentions_in


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Parsers help (Roe, 2000).", "Parsers help [CIT]."),
        ("Parsers help [Roe, 2000a,b].", "Parsers help [CIT]."),
        ("Parsers help (Roe 2000; Doe and Lee, 2001b).", "Parsers help [CIT]."),
        ("Parsers help (Roe, 2000, 2001; Doe et al., in press).", "Parsers help [CIT]."),
        ("Parsers help (see Roe, 2000, pp. 3-9).", "Parsers help (see [CIT])."),
        ("Parsers (e.g., Roe, 2000; Doe & Lee 2001) help.", "Parsers (e.g., [CIT]) help."),
        ("Grammars (CFG; Roe and Lee 2002, p. 10) help.", "Grammars (CFG; [CIT]) help."),
        ("Bakers (van der Roe, 2000; De Lee, 2001) help.", "Bakers [CIT] help."),
        ("As Roe (2000) says, it helps.", "As [CIT] says, it helps."),
        ("However, Roe and Doe (1999a) object.", "However, [CIT] object."),
        ("Recently, Roe, Doe and Lee (1999) object.", "Recently, [CIT] object."),
        ("We follow McRoe et al. (2000; 2001).", "We follow [CIT]."),
        ("Roe [2000] and O'Doe [2001, Table 3] agree.", "[CIT] and [CIT] agree."),
        ("Roe (2000)'s parser and Doe's (2001) differ.", "[CIT]'s parser and [CIT] differ."),
        ("Known since Roe et al., 1999, it helps.", "Known since [CIT], it helps."),
        ("Shown in full by Brandt, 2000 for trees.", "Shown in full by [CIT] for trees."),
        ("As in Brandt, 2000, we smooth.", "As in [CIT], we smooth."),
        ("Smoothing after Roe and Doe 2002 helps.", "Smoothing after [CIT] helps."),
        ("The idea of Roe et al. is simple.", "The idea of [CIT] is simple."),
        ("Roe and colleagues think so.", "[CIT] think so."),
        ("Parsers help [1].", "Parsers help [CIT]."),
        ("Parsers help [1, 3-5] and [12,14].", "Parsers help [CIT] and [CIT]."),
        ("Parsers [2], [3] and taggers [4, p. 7] help.", "Parsers [CIT] and taggers [CIT] help."),
        ("Roe et al. [7] help.", "[CIT] help."),
        ("Parsers++ [14] help in [15].", "Parsers++ [CIT] help in [CIT]."),
        ("After an interval [18] it helps.", "After an interval [CIT] it helps."),
        ("Parsers help indeed (1; 2).", "Parsers help indeed [CIT]."),
        ("Enzymes rise sharply (3, 7-9), it seems.", "Enzymes rise sharply [CIT], it seems."),
        ("Parsers help [RD04] and [LR99a; Doe01].", "Parsers help [CIT] and [CIT]."),
        # As machines read them.
        ("Parsers help (Roe et al,2000) (Roeand Doe, 2001).", "Parsers help [CIT]."),
        ("Seen by Tanget al (2010) and Doe et al2004.", "Seen by [CIT] and [CIT]."),
        ("Seen by Mu ?ller (2006) and Pol~ret, 1991.", "Seen by [CIT] and [CIT]."),
        ("Seen by (Col lier et al, 2000) first.", "Seen by [CIT] first."),
        ("(2005) says so.", "[CIT] says so."),
    ],
)
def test_marks_of_every_kind_are_masked(text, masked):
    assert mask_mentions_in(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "The parser is slow (see Table 2) and exact (F1 = 0.9).",
        "Most trees are flat (n = 12; p < 0.05) or deep (85 %).",
        "In May (2001) and in 2003 (a good year) we met.",
        "The shared task of 2007 had the data of SemEval 2007 and CoNLL-2000.",
        "Held in Prague, 2007 was a warm year.",
        "The war (1939-1945) changed that, as did the 1960s.",
        "The weights are in [0, 1] and the dose in the range [1, 10].",
        "For x[3] in x = [1, 2] let y in [2, 5] of a scale [1-5].",
        "Equations (1, 2) hold, and so do lemmas (3; 4).",
        "Children (5-7) of both classes (1, 2) took part (10-15).",
        "Metal oxides and Skeletal muscle do not differ.",
        "Both Section 3 (2001) and Table 4 (2005 edition) say so.",
        "Of Version 2000 and Windows there were (1) a few, (2) more.",
        "He ran a test (in German) with a tag [MASK] at 12:30.",
        "A pair (f, e) is kept if f(x) > 0.5 and g [x] < 3 (cf. Figure 2a).",
    ],
)
def test_ordinary_text_stays(text):
    assert mask_mentions_in(text) == text


def test_a_known_mark_is_replaced_wherever_it_stands():
    text = "As in the [3, 4] of x, sets [3,4] help; see page 3."
    assert (
        mask_mentions_in(text, ["[3, 4]"]) == "As in the [CIT] of x, sets [CIT] help; see page 3."
    )
    assert mask_mentions_in("Shown 3 of 33 x3 (3).", ["3"]) == "Shown [CIT] of 33 x3 [CIT]."
    assert mask_mentions_in("After Hodge's work.", ["Hodge", "Hodge's work"]) == "After [CIT]."
    assert mask_mentions_in("Nothing is known.", ["", "[9]"]) == "Nothing is known."


words = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=9)
ordinary = st.one_of(
    words,
    words.map(str.upper),
    words.map(str.capitalize).filter(lambda word: word not in ("In", "Al")),
    st.integers(0, 999).map(str),
    st.floats(0, 1, width=16).map(str),
    words.map("({})".format),
    st.integers(0, 99).map("({})".format),
    st.sampled_from(
        ["(see Table 2)", "(p < 0.05)", "x = 3,", "in 1999", "50 %;", "[x, y]", "1990s"]
    ),
)


@given(st.lists(ordinary, max_size=12))
def test_text_without_brackets_of_years_and_numbers_stays(parts):
    text = " ".join(parts)
    # A name beside a year is what a mark looks like.
    text = text.replace("in 1999", "in that year")
    assert mask_mentions_in(text) == text


@given(st.text(max_size=60))
def test_a_mark_is_masked_whatever_stands_before_it(text):
    assert mask_mentions_in(f"{text} but (Roe, 2000).").endswith("[CIT].")


@pytest.mark.parametrize(
    "piece", ["Roe and ", "Roe, ", "Roe et ", "[1, ", "(Roe 2000, ", "R.-", "Ro-", "? ", "van "]
)
def test_time_grows_with_the_text_and_not_faster(piece):
    def seconds(times):
        text = piece * times
        start = time.perf_counter()
        mask_mentions_in(text)
        return time.perf_counter() - start

    seconds(10)
    assert seconds(2000) < 5


def test_a_long_row_of_years_takes_no_time():
    years = ", ".join(str(year) for year in range(1975, 2002))
    start = time.perf_counter()
    for text in (f"Roe et al. ({years} and later) count.", f"In Roe ({years}) they count."):
        mask_mentions_in(text)
    assert time.perf_counter() - start < 1
    assert mask_mentions_in(f"As Roe ({years}) says.") == "As [CIT] says."
    assert mask_mentions_in("As Roe (1999, 12-13; 2000, 1850-1860) says.") == "As [CIT] says."
