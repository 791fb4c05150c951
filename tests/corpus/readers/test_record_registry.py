import pytest

from sciembed_train.corpus.audit import BadRow
from sciembed_train.corpus.readers.record_registry import RECORD_FORMATS
from sciembed_train.corpus.readers.records.plain_papers import PlainPapers
from sciembed_train.corpus.validation import read_paper
from tests.corpus.readers.records import (
    test_arxiv,
    test_bibtex,
    test_crossref,
    test_openalex,
    test_pubmed,
    test_ris,
    test_s2orc,
    test_scirepeval,
    test_semantic_scholar,
    test_unarxive,
)

SAMPLES = {
    "openalex": [test_openalex.WORK],
    "crossref": [test_crossref.WORK],
    "unarxive": [test_unarxive.PAPER],
    "s2orc": [
        *(test_s2orc.METADATA, test_s2orc.OF_2019, test_s2orc.OF_2020),
        *(test_s2orc.OF_2021, test_s2orc.DOC2JSON),
    ],
    "arxiv": [test_arxiv.PAPER],
    "scirepeval": [test_scirepeval.OF_A_TEST, test_scirepeval.OF_TRAINING],
    "pubmed": [test_pubmed.OF_XML, test_pubmed.OF_TEXT],
    "bibtex": [test_bibtex.ENTRY],
    "ris": [test_ris.RECORD],
    "semantic_scholar": [
        *(test_semantic_scholar.API, test_semantic_scholar.PAPERS),
        *(test_semantic_scholar.ABSTRACTS, test_semantic_scholar.S2ORC),
    ],
}


@pytest.mark.parametrize("known", RECORD_FORMATS.values(), ids=RECORD_FORMATS)
def test_no_format_takes_rows_with_the_common_columns_for_its_own(known):
    for row in (
        {"paper_id": "1", "title": "t", "abstract": "a"},
        {"id": 1, "title": "t", "abstract": "a", "year": 2001, "doi": "10.1/x"},
        {"paper_id": "1", "title": "t", "abstract": ["a", "b"], "references": ["2"]},
        {"DOI": "10.1/x", "Title": "t", "Abstract": "a"},
        {"corpus_id": 1, "title": "t", "abstract": "a", "doi": "10.1/x"},
        {"corpusid": 1, "title": "t", "abstract": "a"},
        {"doc_id": "1", "title": "t", "abstract": "a"},
        {"key": "x", "title": "t", "abstract": "a", "pmid": 1},
    ):
        assert not known.recognises(row)


def test_each_formats_records_are_recognised_by_it_alone():
    assert set(SAMPLES) == set(RECORD_FORMATS)
    for name, samples in SAMPLES.items():
        for sample in samples:
            takers = [other for other, known in RECORD_FORMATS.items() if known.recognises(sample)]
            assert takers == [name], list(sample)


def test_each_format_has_a_name_of_its_own():
    names = [known.name for known in RECORD_FORMATS.values()]
    assert len(set(names)) == len(names)


STRANGE = (
    None,
    7,
    1.5,
    float("nan"),
    True,
    "",
    "text",
    "\ud800",
    [],
    [None],
    [[]],
    [7],
    {},
    {"a": {}},
)


def spoiled(value, depth=3):
    """A value with each of the values in it, and it itself, replaced by strange ones."""
    yield from STRANGE
    if depth and isinstance(value, dict):
        for key in value:
            yield {name: other for name, other in value.items() if name != key}
            for other in spoiled(value[key], depth - 1):
                yield {**value, key: other}
    if depth and isinstance(value, list) and value:
        yield from ([other] for other in spoiled(value[0], depth - 1))


PLAIN = {"paper_id": 1, "title": "t", "abstract": ["a"], "year": 2001, "doi": "x"}
PLAIN |= {"references": [{"id": 2}], "cited_by": "3, 4"}


@pytest.mark.parametrize("name", [*RECORD_FORMATS, "plain"])
def test_a_record_with_a_strange_value_is_a_paper_or_a_bad_row_and_never_a_crash(name):
    papers = bad = 0
    for sample in SAMPLES.get(name, [PLAIN]):
        for row in spoiled(sample):
            if not isinstance(row, dict):
                continue
            known = RECORD_FORMATS[name] if name in RECORD_FORMATS else PlainPapers()
            known.recognises(row)
            try:
                paper = read_paper(known.paper(row))
                papers += 1
                assert paper.paper_id
                assert all(isinstance(each, str) for each in (*paper.references, *paper.other_ids))
            except BadRow:
                bad += 1
    assert papers
    assert bad
