import pytest

from sciembed_train.text.text_faults import TextFaults, has_publisher_words, is_foreign

ENGLISH = "We study the effect of noise on the training of deep networks and show that it is small."


@pytest.mark.parametrize(
    "text",
    [
        "Wir untersuchen den Einfluss von Rauschen auf das Training tiefer Netze und zeigen, dass "
        "er klein ist.",
        "Nous étudions les effets du bruit sur les réseaux profonds et montrons que ces effets "
        "restent petits.",
        "Мы изучаем влияние шума на обучение глубоких сетей и показываем, что оно всегда мало",
    ],
)
def test_other_languages_are_told_from_english(text):
    assert is_foreign(text)
    assert not is_foreign(ENGLISH)


def test_a_few_words_are_not_judged():
    assert not is_foreign("Zur Theorie der Orbitalmagnetisierung")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{ENGLISH} © 2019 Elsevier B.V. All rights reserved.", True),
        (f"{ENGLISH} Copyright (c) 2004 The Authors.", True),
        ("Licensee MDPI, Basel.", True),
        ("We study copyright law since 1999 in the courts.", False),
        (ENGLISH, False),
    ],
)
def test_a_publishers_words_are_found(text, expected):
    assert has_publisher_words(text) is expected


def test_papers_are_counted_with_the_first_place():
    faults = TextFaults()
    for place, text in enumerate(["", ENGLISH, f"{ENGLISH} © 2019 X", f"{ENGLISH} © 2020 X"]):
        faults.add("row {}".format, place, text)
    assert faults.notes() == [
        "2 abstracts hold a publisher's words, such as a copyright line (the first row 2). They "
        "are kept as they stand."
    ]
