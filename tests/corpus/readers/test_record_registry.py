import pytest

from sciembed_train.corpus.readers.record_registry import RECORD_FORMATS


@pytest.mark.parametrize("known", RECORD_FORMATS.values(), ids=RECORD_FORMATS)
def test_no_format_takes_rows_with_the_common_columns_for_its_own(known):
    for row in (
        {"paper_id": "1", "title": "t", "abstract": "a"},
        {"id": 1, "title": "t", "abstract": "a", "year": 2001, "doi": "10.1/x"},
        {"paper_id": "1", "title": "t", "abstract": ["a", "b"], "references": ["2"]},
    ):
        assert not known.recognises(row)


def test_each_format_has_a_name_of_its_own():
    names = [known.name for known in RECORD_FORMATS.values()]
    assert len(set(names)) == len(names)
