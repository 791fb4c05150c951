import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sciembed_train.corpus.id_table import IdList, IdNumbers
from sciembed_train.corpus.paper_ids import UNKNOWN, PaperIds, plain_forms, same_plain_form

HEX = "0a1b" * 10


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("10.1000/Xyz", "https://doi.org/10.1000/xyz"),
        ("doi:10.1000/xyz", "DOI: 10.1000/XYZ"),
        ("http://dx.doi.org/10.1000/xyz", "10.1000/xyz"),
        ("1706.03762", "arXiv:1706.03762v5"),
        ("https://arxiv.org/pdf/1706.03762v1.pdf", "https://arxiv.org/abs/1706.03762"),
        ("10.48550/arXiv.1706.03762", "arxiv:1706.03762"),
        ("hep-th/9901001v2", "arXiv:hep-th/9901001"),
        ("https://openalex.org/W17", "w17"),
        (HEX.upper(), f"https://www.semanticscholar.org/paper/A-Title/{HEX}"),
        ("17", "17.0"),
        ("17", "CorpusId:17"),
        ("CorpusId:17", "17"),
        ("PMID:17", "https://pubmed.ncbi.nlm.nih.gov/17/"),
    ],
)
def test_spellings_of_one_id_find_the_same_paper(one, other):
    assert PaperIds({"another": 0, one: 1}).find(other) == 1
    assert PaperIds({"another": 0, other: 1}).find(one) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *(("p1", "P1"), ("a-1", "a1"), ("PMID:17", "CorpusId:17"), ("1706.03762", "1706.03763")),
        *(("10.1000/x", "10.1000/y"), ("17", "018"), ("W17", "17")),
    ],
)
def test_different_ids_stay_different(one, other):
    assert PaperIds({one: 1}).find(other) == UNKNOWN


def test_an_exact_id_goes_before_a_plain_form():
    ids = PaperIds({"17": 0, "CorpusId:17": 1, "PMID:17": 2})
    assert [ids.find(text) for text in ("17", "CorpusId:17", "pmid:17", "S2:17")] == [0, 1, 2, 1]


def test_papers_are_found_by_their_other_ids():
    ids = PaperIds({"p": 0}, {"doi:10.1000/x": 0, "pmid:9": 0})
    found = ids.find_all(["p", "https://doi.org/10.1000/X", "9", "PMID:9", "q"])
    np.testing.assert_array_equal(found, [0, 0, UNKNOWN, 0, UNKNOWN])
    assert ids.spelled_otherwise == 2
    assert ids.example == ("https://doi.org/10.1000/X", 0)


def test_two_ids_of_one_plain_form_are_found():
    ids = ["10.1000/x", "17", "17.0", "18", "DOI:10.1000/X", "a"]
    assert same_plain_form({paper_id: n for n, paper_id in enumerate(ids)}) == [
        ("17.0", "17"),
        ("DOI:10.1000/X", "10.1000/x"),
    ]


def test_ids_of_no_known_kind_have_no_plain_form():
    assert plain_forms("p1") == plain_forms("Smith2001") == plain_forms("a/b c") == ()


SPELLINGS = st.sampled_from(
    [
        *(
            "17",
            "17.0",
            "CorpusId:17",
            "PMID:17",
            "pubmed:17",
            "S2:18",
            "18",
            "MAG:19",
            "corpusid:17",
        ),
        *("10.1000/x", "DOI:10.1000/X", "doi:10.1000/x", "https://doi.org/10.1000/Y", "10.1000/y"),
        *("1706.03762", "arXiv:1706.03762v2", "10.48550/arXiv.1706.03762", "arxiv:1706.03762"),
        *(
            "W5",
            "w5",
            "https://openalex.org/W5",
            HEX,
            HEX.upper(),
            f"S2:{HEX}",
            "p1",
            "P1",
            "",
            "é",
        ),
    ]
)


@given(st.lists(SPELLINGS, unique=True), st.lists(SPELLINGS, unique=True), st.lists(SPELLINGS))
def test_many_ids_are_found_as_one_by_one_by_the_rule(names, others, asked):
    number = {name: place for place, name in enumerate(names)}
    other_ids = {name: place for place, name in enumerate(others) if place < len(names)}
    plain, numbers = {}, {}
    for text, place in [*number.items(), *other_ids.items()]:
        for form in plain_forms(text)[:1]:
            plain.setdefault(form, place)
    for text, place in number.items():
        for form in plain_forms(text)[1:]:
            numbers.setdefault(form, place)

    def by_rule(text):
        for known in (number, other_ids):
            if text in known:
                return known[text]
        forms = plain_forms(text)
        found = [plain[form] for form in forms if form in plain]
        if not found and len(forms) == 1:
            found = [numbers[forms[0]]] if forms[0] in numbers else []
        return found[0] if found else UNKNOWN

    expected = [by_rule(text) for text in asked]
    one_by_one, together = PaperIds(number, other_ids), PaperIds(number, other_ids)
    compact = PaperIds(IdNumbers(IdList.of(names)), other_ids)
    assert [one_by_one.find(text) for text in asked] == expected
    for ids in (together, compact):
        assert ids.find_all(asked).tolist() == expected
        assert (ids.spelled_otherwise, ids.example) == (
            one_by_one.spelled_otherwise,
            one_by_one.example,
        )
    assert same_plain_form(compact.number) == same_plain_form(number)
