import shutil

import numpy as np
import pytest
import torch

from sciembed_train.encoder.backends.graph_encoder import GraphEncoder, backend_of
from sciembed_train.encoder.backends.graph_files import graph_path
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.errors import UserError
from sciembed_train.inference.embed_file import fingerprint
from sciembed_train.text.input_format import InputFormat
from sciembed_train.text.truncation import Truncation
from tests.helpers.adapter_models import adapted_encoder
from tests.helpers.graph_models import PAPERS, save_with_graphs, with_graphs

pytest.importorskip("onnxruntime")


def composed(encoder):
    return [encoder.compose(title, abstract) for title, abstract in PAPERS]


def test_texts_are_read_cut_and_counted_as_by_torch(tiny_bert, tmp_path):
    form = InputFormat(separator="space", prompt="word2: ")
    encoder = with_graphs(
        tiny_bert, tmp_path / "m", pooling="mix", input_format=form, max_length=200
    )
    graph = GraphEncoder.load(tmp_path / "m", "onnx")
    assert composed(graph) == composed(encoder)
    counted, expected = Truncation(), Truncation()
    rows = graph.rows(composed(graph), counted)
    assert torch.equal(rows.ids, encoder.rows(composed(encoder), expected).ids)
    assert counted == expected
    assert counted.cut == 1
    seen = []
    vectors = graph.encode_rows(rows, batch_tokens=300, progress=seen.append)
    assert (vectors - encoder.encode_texts(composed(encoder))).abs().max() <= 1e-5
    assert sum(seen) == len(PAPERS)
    assert (graph.dim, graph.device.type, graph.unpadded) == (32, "cpu", False)


def test_a_shorter_text_and_fewer_numbers_are_those_of_torch(with_onnx):
    graph = GraphEncoder.load(with_onnx, "onnx", max_length=20)
    encoder = Encoder.load(with_onnx, max_length=20)
    graph.truncate_dim = encoder.truncate_dim = 8
    vectors = graph.encode_texts(composed(graph))
    assert vectors.shape == (5, 8)
    assert (vectors - encoder.encode_texts(composed(encoder))).abs().max() <= 1e-5
    np.testing.assert_allclose(vectors.norm(dim=1), 1, atol=1e-5)
    with pytest.raises(UserError, match=r"max_length is 513, but .* has positions for 512"):
        GraphEncoder.load(with_onnx, "onnx", max_length=513)


@pytest.mark.parametrize("kind", ["codes", "adapters"])
def test_a_format_is_read_as_by_torch(tiny_bert, tmp_path, kind):
    if kind == "codes":
        encoder = with_graphs(tiny_bert, tmp_path / "m", control_codes=True)
    else:
        encoder = adapted_encoder(tiny_bert, "float32")
        save_with_graphs(encoder, tmp_path / "m")
        assert graph_path(tmp_path / "m", "onnx", "proximity").is_file()
        assert not graph_path(tmp_path / "m", "onnx").exists()
    graph = GraphEncoder.load(tmp_path / "m", "onnx")
    texts = composed(encoder)
    by_format = [graph.encode_texts(texts, format=name) for name in ("classification", "proximity")]
    for vectors, name in zip(by_format, ("classification", "proximity"), strict=True):
        assert (vectors - encoder.encode_texts(texts, format=name)).abs().max() <= 1e-5
    assert (by_format[0] - by_format[1]).abs().max() > 1e-3
    # Several formats at once, as benchmarks ask for them.
    mixed = torch.tensor([0, 2, 0, 2, 0])
    with torch.no_grad():
        vectors, _ = graph.encode_tokens(graph.rows(texts), formats=mixed)
    expected = torch.where((mixed == 0).unsqueeze(1), *by_format)
    assert (vectors - expected).abs().max() <= 1e-5
    with pytest.raises(UserError, match="--format-token"):
        graph.encode_texts(texts)
    with pytest.raises(UserError, match="summary"):
        graph.encode_texts(texts, format="summary")


def test_a_fingerprint_is_of_the_graphs_bytes(with_onnx, tmp_path):
    graph = GraphEncoder.load(with_onnx, "onnx")
    assert fingerprint(graph) == fingerprint(GraphEncoder.load(with_onnx, "onnx"))
    assert fingerprint(graph) != fingerprint(Encoder.load(with_onnx))
    copy = shutil.copytree(with_onnx, tmp_path / "m")
    before = fingerprint(GraphEncoder.load(copy, "onnx"))
    assert before == fingerprint(graph)
    with (copy / "onnx" / "model.onnx").open("ab") as file:
        file.write(b"\x32\x00")  # an empty field of another version: the graph is the same
    assert fingerprint(GraphEncoder.load(copy, "onnx")) != before


def test_torch_runs_what_has_weights_and_a_graph_what_has_none(with_onnx, tiny_bert, tmp_path):
    assert backend_of(with_onnx, None) == "torch"
    assert backend_of(with_onnx, "onnx") == "onnx"
    assert backend_of(tiny_bert, None) == "torch"
    assert backend_of("somebody/some-model", None) == "torch"
    copy = shutil.copytree(with_onnx, tmp_path / "m")
    (copy / "model.safetensors").unlink()
    assert backend_of(copy, None) == "onnx"
    graph = GraphEncoder.load(copy, "onnx")
    texts = composed(graph)
    assert torch.equal(
        graph.encode_texts(texts), GraphEncoder.load(with_onnx, "onnx").encode_texts(texts)
    )


def test_of_a_hub_model_the_graph_is_fetched_without_weights_and_variants(
    with_onnx, tmp_path, monkeypatch
):
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    hub = shutil.copytree(with_onnx, tmp_path / "hub")
    for variant in ("model_O4.onnx", "model_quint8_avx2.onnx"):
        (hub / "onnx" / variant).touch()
    files = [str(path.relative_to(hub)) for path in hub.rglob("*") if path.is_file()]

    def download(name, allow_patterns):
        for path in filter_repo_objects(files, allow_patterns=allow_patterns):
            (tmp_path / "local" / path).parent.mkdir(exist_ok=True, parents=True)
            shutil.copy(hub / path, tmp_path / "local" / path)
        return str(tmp_path / "local")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    graph = GraphEncoder.load("somebody/model", "onnx")
    assert graph.settings.backbone == "somebody/model"
    assert torch.equal(
        graph.encode_texts(["word1"]), GraphEncoder.load(with_onnx, "onnx").encode_texts(["word1"])
    )
    assert {p.name for p in (tmp_path / "local").rglob("*onnx")} == {"onnx", "model.onnx"}
    assert not list((tmp_path / "local").rglob("*.safetensors"))


def test_a_model_without_that_graph_says_what_it_has(with_onnx, tiny_bert):
    with pytest.raises(UserError, match=r"no graph for --backend openvino .*has one for onnx.*"):
        GraphEncoder.load(with_onnx, "openvino")
    with pytest.raises(UserError, match=r"no graph for --backend onnx .*; it has none"):
        GraphEncoder.load(tiny_bert, "onnx")


def test_vectors_of_sentences_are_refused(with_onnx, tiny_bert, tmp_path):
    graph = GraphEncoder.load(with_onnx, "onnx")
    with pytest.raises(UserError, match="none of its sentences"):
        graph.encode_sentences([("word1", ["word2 word3"])])
    encoder = Encoder.load(tiny_bert, pooling="sentences")
    encoder.save(tmp_path / "m", {"similarity": "best_match"})
    with pytest.raises(UserError, match="which no graph does"):
        GraphEncoder.load(tmp_path / "m", "onnx")
