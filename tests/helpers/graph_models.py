"""Exports of tiny encoders with graphs, and papers of unlike lengths to embed by them."""

import pytest

from sciembed_train.export.graphs import write_graphs
from tests.helpers.exports import encoder_of

# From a title alone to a text that is cut.
PAPERS = [
    ("word1 word2", None),
    ("word3", "word4 word5 word6."),
    ("a b c", "word7 " * 90),
    ("word9", "word8 word1 " * 400),
    ("word11 word12 word13", ""),
]


def needs_openvino():
    """Skip where OpenVINO, or what makes its 8-bit weights, is not installed."""
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    pytest.importorskip("nncf", reason="the extra openvino is not installed")


def save_with_graphs(encoder, folder, graphs=("onnx",)):
    """The encoder, whose folder has graphs; without what is for other libraries, for speed."""
    encoder.save(folder, {"similarity": "cosine"})
    write_graphs(encoder, folder, graphs)
    return encoder


def with_graphs(backbone, folder, graphs=("onnx",), **settings):
    """An encoder of a backbone, and its folder with graphs."""
    return save_with_graphs(encoder_of(backbone, **settings), folder, graphs)
