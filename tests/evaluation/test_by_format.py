import numpy as np
import torch

from sciembed_train.evaluation.by_format import PlainModel, RandomVectors, as_paper
from sciembed_train.evaluation.options import EmbedSettings
from sciembed_train.evaluation.systems import Model
from sciembed_train.inputs import FORMATS

RECORDS = [("Sorting networks", "Comparators.", "Venue", "1964"), ("Alone",), ("A", "B"), ()]


def test_a_plain_model_reads_fields_between_separators(tiny_bert):
    model = Model(str(tiny_bert), EmbedSettings(device="cpu"), quiet=True)
    plain = PlainModel(model)
    found = plain.embed(RECORDS, "proximity")
    texts = ["Sorting networks [SEP] Comparators. [SEP] Venue [SEP] 1964", "Alone", "A [SEP] B", ""]
    with torch.no_grad():
        expected = model.encoder(model.encoder.rows(texts)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for format in FORMATS:
        np.testing.assert_array_equal(plain.embed(RECORDS, format), found)
    assert plain.describe()["formats"] == "one vector for every format"


def test_a_record_of_title_and_abstract_is_a_paper():
    assert as_paper(("Title", "Abstract."), "[SEP]") == ("Title", "Abstract.")
    assert as_paper(("Title",), " ") == ("Title", "")
    assert as_paper((), " ") == ("", "")


def test_random_vectors_follow_text_and_format():
    one = RandomVectors(3)
    found = one.embed(RECORDS, "proximity")
    np.testing.assert_array_equal(found[1:2], RandomVectors(3).embed(RECORDS[1:2], "proximity"))
    assert len(np.unique(found[:, 0])) == 4
    assert not np.isclose(one.embed(RECORDS, "adhoc_query"), found).any()
    assert not np.isclose(RandomVectors(4).embed(RECORDS, "proximity"), found).any()
