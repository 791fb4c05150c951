import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.records.bibtex import Bibtex, unprotected
from sciembed_train.corpus.validation import read_paper
from sciembed_train.text.cleaning import cleaned

ENTRY = {
    "ENTRYTYPE": "article",
    "ID": "roe2001",
    "title": "{The {DNA} of {E}scherichia}",
    "abstract": "Text~here.",
    "year": "2001",
    "doi": "10.1/x",
    "eprint": "1706.03762",
    "archiveprefix": "arXiv",
    "pmid": "5",
}


def read(row):
    return read_paper(Bibtex().paper(row))


def test_an_entry_has_its_key_as_id():
    assert Bibtex().recognises(ENTRY)
    paper = read(ENTRY)
    assert (paper.paper_id, paper.title) == ("roe2001", "The DNA of Escherichia")
    assert (paper.abstract, paper.year) == ("Text here.", 2001)
    assert paper.other_ids == ("doi:10.1/x", "arxiv:1706.03762", "pmid:5")


def test_an_entry_of_biblatex_has_a_date_and_perhaps_another_archive():
    entry = {"ENTRYTYPE": "online", "ID": "a", "date": "2001-05-03", "eprint": "7"}
    paper = read({**entry, "eprinttype": "pubmed"})
    assert (paper.year, paper.other_ids) == (2001, ("pmid:7",))
    assert read({**entry, "eprinttype": "hal"}).other_ids == ()


@pytest.mark.parametrize(
    ("title", "plain"),
    [
        ("{DNA} and {RNA}s", "DNA and RNAs"),
        ("{{Deep Learning} for {Proteins}}", "Deep Learning for Proteins"),
        (r"Universit{\"a}t M{\"{u}}nchen", "Universität München"),
        (r"G\"odel, Erd{\H{o}}s and \'{E}tale", "Gödel, Erdős and Étale"),
        (r"\emph{ab initio} of H$_2$O", "ab initio of H2O"),
        (r"$\delta$-cells at 50\% of {\ss}", "δ-cells at 50% of ß"),
        (r"Research \& Development of {C}++", "Research & Development of C++"),
        (r"costs \$5 for {DNA} and \$6", "costs $5 for DNA and $6"),
        (r"$x^{2}$ and {Y}", "x^2 and Y"),
        (r"$\frac{a}{b}$ {of} {A}{B}", "a/b of AB"),
        ("an unclosed { stays", "an unclosed { stays"),
    ],
)
def test_titles_are_read_without_protecting_brackets_and_tex(title, plain):
    assert cleaned(unprotected(title)) == plain


def test_thousands_of_brackets_take_no_time():
    assert unprotected("{" * 100_000) == "{" * 100_000


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"ENTRYTYPE": "article", "title": "no id"}, "there is no ID"),
        ({**ENTRY, "title": 7}, "title has a wrong type"),
        ({**ENTRY, "ID": ""}, "paper_id is empty"),
    ],
)
def test_what_is_missing_or_of_a_wrong_type_is_told(row, reason):
    with pytest.raises(BadRow) as bad:
        read(row)
    assert bad.value.reason == reason
