import numpy as np
import pytest
import torch

from sciembed_train.encoder.backends.runtimes import OnnxGraph
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.errors import UserError
from sciembed_train.export import onnx_graph
from sciembed_train.export.onnx_graph import write_onnx
from tests.helpers.exports import encoder_of
from tests.helpers.graph_models import PAPERS
from tests.helpers.masked_models import write_masked_lm

pytest.importorskip("onnxruntime")

MEAN = {"pooling": "mean", "normalize": True}
MIX = {"pooling": "mix", "mix_init": "linear"}
OUTSIDE = {"pooling": "tests.helpers.outside_poolings.AttentionPooling"}


def padded(encoder, texts, slots=0):
    """Ids and mask of texts as any program makes them, with ``slots`` more than are needed."""
    rows = encoder.tokenizer.rows(texts, encoder.settings.max_length)
    ids = np.full((len(rows), max(map(len, rows)) + slots), encoder.tokenizer.pad_id)
    mask = np.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    return ids, mask


def largest_difference(encoder, path):
    """Of the graph's vectors, for texts alone, in pairs and all together, with more padding."""
    graph = OnnxGraph(path)
    texts = [encoder.compose(title, abstract) for title, abstract in PAPERS]
    expected = encoder.encode_texts(texts).numpy()
    largest = 0.0
    for count, slots in ((1, 0), (2, 0), (len(texts), 0), (3, 9)):
        for start in range(0, len(texts), count):
            part = slice(start, start + count)
            vectors = graph.vectors(*padded(encoder, texts[part], min(slots, 2)))
            largest = max(largest, np.abs(vectors - expected[part]).max())
    return largest


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("bert", {"pooling": "cls", "normalize": True}),
        ("bert", OUTSIDE),
        ("roberta", MEAN),
        ("distilbert", MIX),
        ("mpnet", MEAN),
        ("mpnet", MIX),
        ("modernbert", {"pooling": "cls"}),
        ("modernbert", MIX),
        ("electra", {"pooling": "mean"}),
    ],
    ids=lambda value: value if isinstance(value, str) else value["pooling"].rpartition(".")[2],
)
def test_a_graph_gives_the_encoders_vectors_for_any_number_and_length(tmp_path, kind, settings):
    encoder = encoder_of(write_masked_lm(tmp_path / "m", kind), max_length=256, **settings)
    write_onnx(encoder, tmp_path / "g.onnx")
    assert largest_difference(encoder, tmp_path / "g.onnx") <= 1e-5
    assert not encoder.training


@pytest.mark.parametrize("code", ["[PRX]", "[CLF]"])
def test_the_vector_of_control_codes_is_the_codes_state(tiny_bert, tmp_path, code):
    encoder = encoder_of(tiny_bert, control_codes=True)
    write_onnx(encoder, tmp_path / "g.onnx")
    number = encoder.tokenizer.hf.convert_tokens_to_ids(code)
    row = [*encoder.tokenizer.prefix, number, 20, 21, *encoder.tokenizer.suffix]
    vectors = OnnxGraph(tmp_path / "g.onnx").vectors(np.array([row]), np.ones((1, 5), np.int64))
    with torch.no_grad():
        states = encoder.backbone(torch.tensor([row])).last_hidden_state[0]
    np.testing.assert_allclose(vectors[0], states[1], atol=1e-5)


def test_the_file_names_no_place_of_this_machine_and_the_mode_stays(tiny_bert, tmp_path):
    encoder = encoder_of(tiny_bert).train()
    write_onnx(encoder, tmp_path / "g.onnx")
    assert encoder.training
    content = (tmp_path / "g.onnx").read_bytes()
    for place in (str(tiny_bert), str(tmp_path), "site-packages", "sciembed_train/"):
        assert place.encode() not in content


def test_a_pooling_that_cannot_be_followed_is_one_message(tiny_bert, tmp_path, monkeypatch):
    def split_by_host(self, states):
        raise RuntimeError("reads sizes of the host\nand more")

    encoder = encoder_of(tiny_bert, **OUTSIDE)
    monkeypatch.setattr(type(encoder.pooling), "forward", split_by_host)
    with pytest.raises(UserError, match="cannot be written as an ONNX graph: reads sizes of the"):
        write_onnx(encoder, tmp_path / "g.onnx")


def test_more_weights_than_a_file_can_hold_are_refused(tiny_bert, monkeypatch):
    encoder = encoder_of(tiny_bert)
    onnx_graph.check_size(encoder)
    monkeypatch.setattr(onnx_graph, "LARGEST", 1000)
    with pytest.raises(UserError, match="one ONNX file holds less than 1,000"):
        onnx_graph.check_size(encoder)


@pytest.mark.slow
def test_a_real_model_has_the_same_vectors(minilm, tmp_path):
    encoder = Encoder.load(minilm)
    write_onnx(encoder, tmp_path / "g.onnx")
    assert largest_difference(encoder, tmp_path / "g.onnx") <= 1e-5
