import numpy as np
import pytest

from sciembed_train.encoder.backends.graph_files import IDS, MASK, VECTORS
from sciembed_train.encoder.backends.runtimes import OnnxGraph, OpenVinoGraph
from sciembed_train.errors import RunError, UserError
from tests.helpers.graph_models import needs_openvino

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def write_graph(path, inputs=(IDS, MASK), output=VECTORS, domain=""):
    """A graph that gives the ids as floats; not one of an encoder, but it takes and gives as one.

    Where there are several inputs it adds them, which only two of one shape can be.
    """
    made = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["u", "l"])
        for name in inputs
    ]
    given = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["u", "l"])
    nodes = [
        onnx.helper.make_node("Mul", [inputs[0], inputs[-1]], ["both"], domain=domain),
        onnx.helper.make_node("Cast", ["both"], [output], to=onnx.TensorProto.FLOAT),
    ]
    domains = [onnx.helper.make_opsetid(name, 17) for name in {"", domain}]
    graph = onnx.helper.make_graph(nodes, "g", made, [given])
    onnx.save_model(onnx.helper.make_model(graph, opset_imports=domains, ir_version=8), path)
    return path


IDS_GIVEN, MASK_GIVEN = np.array([[5, 6, 7], [8, 9, 0]]), np.array([[1, 1, 1], [1, 0, 0]])


@pytest.mark.parametrize("runtime", [OnnxGraph, OpenVinoGraph])
def test_a_graph_takes_ids_and_mask_of_any_size(tmp_path, runtime):
    if runtime is OpenVinoGraph:
        needs_openvino()
    graph = runtime(write_graph(tmp_path / "g.onnx"))
    for rows in (1, 2):
        for slots in (1, 3):
            ids, mask = IDS_GIVEN[:rows, :slots], MASK_GIVEN[:rows, :slots]
            vectors = graph.vectors(ids, mask)
            assert vectors.dtype == np.float32
            assert np.array_equal(vectors, ids * mask)


def test_what_a_graph_cannot_run_on_is_one_message(tmp_path):
    graph = OnnxGraph(write_graph(tmp_path / "g.onnx"))
    with pytest.raises(RunError, match=r"g\.onnx: cannot be run on these texts"):
        graph.vectors(IDS_GIVEN[0], MASK_GIVEN[0])


@pytest.mark.parametrize(
    "wrong", [{"inputs": (IDS,)}, {"inputs": (IDS, "token_type_ids")}, {"output": "logits"}]
)
def test_a_graph_of_something_else_is_refused(tmp_path, wrong):
    path = write_graph(tmp_path / "g.onnx", **wrong)
    with pytest.raises(UserError, match="expected a graph of a whole encoder"):
        OnnxGraph(path)


def test_operators_of_a_library_are_refused_before_the_runtime_sees_them(tmp_path):
    with pytest.raises(UserError, match="Libraries of operators are code"):
        OnnxGraph(write_graph(tmp_path / "g.onnx", domain="my.operators"))


def test_damaged_files_are_refused(tmp_path):
    (tmp_path / "g.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match="is no ONNX file"):
        OnnxGraph(tmp_path / "g.onnx")
    (tmp_path / "h.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be opened"):
        OnnxGraph(tmp_path / "h.onnx")


def test_a_damaged_openvino_file_is_refused(tmp_path):
    needs_openvino()
    (tmp_path / "g.xml").write_text("<net></net>")
    with pytest.raises(UserError, match=r"g\.xml: cannot be opened"):
        OpenVinoGraph(tmp_path / "g.xml")


@pytest.mark.parametrize(
    ("runtime", "library"), [(OnnxGraph, "onnxruntime"), (OpenVinoGraph, "openvino")]
)
def test_a_missing_runtime_says_what_to_install(tmp_path, monkeypatch, runtime, library):
    path = write_graph(tmp_path / "g.onnx")
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(UserError, match=rf"needs the library {library}: pip install"):
        runtime(path)
