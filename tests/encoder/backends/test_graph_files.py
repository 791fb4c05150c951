import pytest

from sciembed_train.encoder.backends.graph_files import (
    check_backend,
    graph_path,
    graphs_in,
    wanted_graphs,
)
from sciembed_train.errors import UserError


def test_the_graphs_of_a_folder_are_found_for_the_encoder_or_its_formats(tmp_path):
    assert graphs_in(tmp_path) == []
    for path in (
        graph_path(tmp_path, "openvino"),
        graph_path(tmp_path, "onnx", "proximity"),
    ):
        path.parent.mkdir(parents=True)
        path.touch()
    assert (tmp_path / "onnx" / "[PRX]" / "model.onnx").is_file()
    assert graphs_in(tmp_path) == ["onnx", "openvino"]


def test_only_what_is_wanted_is_written():
    assert wanted_graphs(False, False) == []
    assert wanted_graphs(True, False) == ["onnx"]
    assert wanted_graphs(True, True) == ["onnx", "openvino"]


def test_an_unknown_backend_is_refused():
    check_backend(None)
    check_backend("openvino")
    with pytest.raises(UserError, match="--backend is tensorrt; expected one of torch, onnx"):
        check_backend("tensorrt")
