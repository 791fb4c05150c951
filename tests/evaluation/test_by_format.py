import numpy as np
import pytest
import torch

from sciembed_train.encoder.adapters.adapter_settings import AdapterSettings
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.errors import UserError
from sciembed_train.evaluation.by_format import (
    PlainModel,
    RandomVectors,
    as_paper,
    model_vectors,
    record_of,
)
from sciembed_train.evaluation.systems import Model
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.text.input_format import FORMATS
from tests.helpers.prompted_models import PROMPTS, write_prompted

RECORDS = {
    "p1": ("Sorting networks", "Comparators.", "Venue", "1964"),
    "p2": ("Alone",),
    "p3": ("A", "B"),
    "p4": (),
}


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


def test_searches_are_read_behind_the_prompt_of_queries(tiny_bert, tmp_path):
    folder = write_prompted(tiny_bert, tmp_path / "m")
    embedder = PlainModel(Model(str(folder), EmbedSettings(device="cpu"), quiet=True))
    records = {"q": ("word4 word5",)}
    for format in FORMATS:
        before = PROMPTS["query" if format == "adhoc_query" else "passage"]
        expected = embedder.model.encoder.encode_texts([f"{before}word4 word5"]).numpy()
        np.testing.assert_allclose(embedder.embed(records, format), expected, atol=1e-6)


def test_a_record_of_title_and_abstract_is_a_paper():
    assert as_paper(("Title", "Abstract."), "[SEP]") == ("Title", "Abstract.")
    assert as_paper(("Title",), " ") == ("Title", "")
    assert as_paper((), " ") == ("", "")


def test_random_vectors_follow_text_and_format():
    one = RandomVectors(3)
    found = one.embed(RECORDS, "proximity")
    np.testing.assert_array_equal(
        found[1:2], RandomVectors(3).embed({"p": RECORDS["p2"]}, "proximity")
    )
    assert len(np.unique(found[:, 0])) == 4
    assert not np.isclose(one.embed(RECORDS, "adhoc_query"), found).any()
    assert not np.isclose(RandomVectors(4).embed(RECORDS, "proximity"), found).any()


@pytest.fixture
def adapted(tiny_bert, tmp_path):
    """A folder of a model with two adapters, whose numbers are large enough to tell them apart."""
    pytest.importorskip("adapters")
    names = ("proximity", "adhoc_query")
    settings = EncoderSettings(str(tiny_bert), adapters=AdapterSettings(names, reduction=4))
    torch.manual_seed(2)
    encoder = Encoder(settings)
    for parameter in encoder.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    encoder.save(tmp_path / "adapted")
    return str(tmp_path / "adapted")


def opened(folder, **settings):
    given = EmbedSettings(device="cpu", **settings)
    return model_vectors(Model(folder, given, quiet=True, by_format=True))


def test_adapters_read_texts_by_their_format(adapted):
    found = opened(adapted)
    encoder = found.model.encoder
    rows = encoder.rows(["Sorting networks [SEP] Comparators. [SEP] Venue [SEP] 1964", "Alone"])
    for format in ("proximity", "adhoc_query"):
        with torch.no_grad():
            expected = encoder(rows, torch.full((2,), list(FORMATS).index(format))).numpy()
        np.testing.assert_allclose(found.embed(RECORDS, format)[:2], expected, atol=1e-6)
    far = np.abs(found.embed(RECORDS, "proximity") - found.embed(RECORDS, "adhoc_query"))
    assert far.max() > 1e-2
    assert found.describe()["formats"] == "a vector for each format"
    with pytest.raises(UserError, match="has no adapter for 'regression', only for proximity"):
        found.embed(RECORDS, "regression")


def test_one_adapter_that_is_named_reads_every_format(adapted):
    expected = opened(adapted).embed(RECORDS, "adhoc_query")
    found = opened(adapted, format_token="[QRY]")
    for format in FORMATS:
        np.testing.assert_array_equal(found.embed(RECORDS, format), expected)
    with pytest.raises(UserError, match=r"no adapter for 'regression'"):
        opened(adapted, format_token="[RGN]")


def test_a_single_adapter_reads_every_format(tiny_bert, tmp_path):
    pytest.importorskip("adapters")
    settings = EncoderSettings(str(tiny_bert), adapters=AdapterSettings(("classification",)))
    Encoder(settings).save(tmp_path / "one")
    found = opened(str(tmp_path / "one"))
    expected = found.embed(RECORDS, "classification")
    np.testing.assert_array_equal(found.embed(RECORDS, "proximity"), expected)
    assert found.describe()["formats"] == "one vector for every format"


def test_a_paper_without_a_title_is_read_as_one():
    assert record_of("Title", ["One.", "Two."]) == ("Title", "One. Two.")
    assert as_paper(record_of(None, ["One."]), " ") == ("", "One.")
    assert as_paper(record_of("Title", []), " ") == ("Title", "")


def test_what_asks_is_stored_by_the_ranges_of_the_papers_before_it(tiny_bert):
    settings = EmbedSettings(device="cpu", pooling="mean")
    records = {f"p{n}": (f"word{17 * n} " * 8,) for n in range(4)}
    query = {"q": ("word300 word400",)}
    exact, stored = (
        PlainModel(Model(str(tiny_bert), settings, quiet=True, dtype=dtype))
        for dtype in (None, "int8")
    )
    papers = exact.embed(records, "proximity")
    step = np.ptp(papers, 0).max() / 255
    np.testing.assert_allclose(stored.embed(records, "proximity"), papers, atol=step)
    asking, found = (one.embed(query, "adhoc_query")[0] for one in (exact, stored))
    low, high = papers.min(0), papers.max(0)
    np.testing.assert_allclose(
        found, np.clip(asking, low, high), atol=np.ptp(papers, 0).max() / 255
    )
    assert np.abs(found - asking).max() > 10 * step
