import json
import sys

import pytest
import torch

from sciembed_train.encoder.backends.graph_files import graphs_in
from sciembed_train.errors import UserError
from sciembed_train.export import onnx_graph, openvino_graph
from sciembed_train.export.export_folder import export_encoder
from sciembed_train.export.graphs import check_graphs
from sciembed_train.export.onnx_graph import WholeEncoder
from sciembed_train.export.push import check_card
from sciembed_train.export.verification import ExportError
from tests.helpers.exports import CARD, encoder_of
from tests.helpers.graph_models import needs_openvino
from tests.helpers.tiny_models import write_tiny_bert

pytest.importorskip("onnxruntime")


def test_graphs_lie_beside_the_weights_and_the_card_says_how_near_they_are(tiny_bert, tmp_path):
    needs_openvino()
    differences = export_encoder(
        encoder_of(tiny_bert, pooling="mean", normalize=True),
        tmp_path / "m",
        CARD,
        graphs=("onnx", "openvino"),
    )
    assert graphs_in(tmp_path / "m") == ["onnx", "openvino"]
    assert 0 <= differences["onnxruntime"] <= 1e-6
    assert 0 < differences["the cosine of OpenVINO int8"] < 1e-3
    card = (tmp_path / "m" / "README.md").read_text()
    assert "pooling and the scaling to unit length are inside" in card
    assert "| `onnx/model.onnx` | onnxruntime: its numbers differ by" in card
    assert "| `openvino/openvino_model_qint8_quantized.xml` | OpenVINO" in card
    assert "graphs" not in json.loads((tmp_path / "m" / "sciembed.json").read_text())
    assert not list((tmp_path / "m").glob("tmp*"))
    check_card(tmp_path / "m")  # as before it is pushed


def test_only_what_is_asked_for_is_left(tiny_bert, tmp_path):
    export_encoder(encoder_of(tiny_bert), tmp_path / "none", CARD)
    assert graphs_in(tmp_path / "none") == []
    assert "Without torch" not in (tmp_path / "none" / "README.md").read_text()
    needs_openvino()
    export_encoder(encoder_of(tiny_bert), tmp_path / "m", CARD, graphs=("openvino",))
    assert graphs_in(tmp_path / "m") == ["openvino"]
    assert not list((tmp_path / "m").rglob("*.onnx"))


def without_normalisation(self, ids, mask):
    hidden = self.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    weight = mask.unsqueeze(-1)
    return hidden, (hidden * weight).sum(1) / weight.sum(1)


def without_mask(self, ids, mask):
    hidden = self.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    # The mask is taken, and changes nothing, so that the graph has it.
    return hidden, torch.nn.functional.normalize(hidden.mean(1) + 0 * mask.sum())


def with_the_sizes_of_the_example(self, ids, mask):
    hidden = self.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
    weight = mask.unsqueeze(-1)
    vectors = (hidden * weight)[:, :7].sum(1) / weight.sum(1)
    return hidden, torch.nn.functional.normalize(vectors)


@pytest.mark.parametrize(
    "fault", [without_normalisation, without_mask, with_the_sizes_of_the_example]
)
def test_a_graph_with_other_vectors_is_noticed_and_nothing_is_left(
    tiny_bert, tmp_path, monkeypatch, fault
):
    monkeypatch.setattr(WholeEncoder, "forward", fault)
    encoder = encoder_of(tiny_bert, pooling="mean", normalize=True)
    with pytest.raises(ExportError, match="onnxruntime computes other embeddings"):
        export_encoder(encoder, tmp_path / "m", CARD, graphs=("onnx",))
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_does_not_run_is_noticed(tiny_bert, tmp_path, monkeypatch):
    def for_two_texts(self, ids, mask):
        hidden = self.backbone(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden, hidden.reshape(2, 7, 32)[:, 0]

    monkeypatch.setattr(WholeEncoder, "forward", for_two_texts)
    with pytest.raises(ExportError, match=r"cannot be run on these texts.*export was removed"):
        export_encoder(encoder_of(tiny_bert), tmp_path / "m", CARD, graphs=("onnx",))
    assert list(tmp_path.iterdir()) == []


def test_weights_of_8_bits_that_are_far_off_are_noticed(tiny_bert, tmp_path, monkeypatch):
    needs_openvino()
    write, other = openvino_graph.write_openvino, encoder_of(write_tiny_bert(tmp_path / "o", 1))

    def of_another(onnx, path):
        onnx_graph.write_onnx(other, onnx)
        write(onnx, path)

    monkeypatch.setattr(openvino_graph, "write_openvino", of_another)
    with pytest.raises(ExportError, match=r"have a cosine of .* at least 0\.99 is wanted"):
        export_encoder(encoder_of(tiny_bert), tmp_path / "m", CARD, graphs=("openvino",))
    assert not (tmp_path / "m").exists()


def test_a_multi_vector_model_is_refused_before_the_work(tiny_bert, tmp_path):
    encoder = encoder_of(tiny_bert, pooling="sentences")
    with pytest.raises(UserError, match="gives a vector for each sentence"):
        export_encoder(
            encoder, tmp_path / "m", {**CARD, "similarity": "best_match"}, graphs=("onnx",)
        )
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_a_missing_library_is_named_before_the_work(tiny_bert, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    check_graphs(encoder_of(tiny_bert), ())
    with pytest.raises(UserError, match=r"need the libraries onnx and onnxruntime: pip install"):
        check_graphs(encoder_of(tiny_bert), ("onnx",))


def test_sentence_transformers_onnx_backend_gives_the_same_vectors(tiny_bert, tmp_path):
    """It pools what the same file gives of tokens; for that it needs the package optimum."""
    pytest.importorskip("optimum.onnxruntime", reason="sentence-transformers needs optimum for it")
    from sentence_transformers import SentenceTransformer

    encoder = encoder_of(tiny_bert, pooling="mean", normalize=True)
    export_encoder(encoder, tmp_path / "m", CARD, graphs=("onnx",))
    texts = ["word1 word2", "word3 " * 40]
    model = SentenceTransformer(str(tmp_path / "m"), backend="onnx", device="cpu")
    vectors = torch.from_numpy(model.encode(texts))
    assert (vectors - encoder.encode_texts(texts)).abs().max() <= 1e-4
