"""The graphs of an export: written beside its weights, opened again and compared with them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from sciembed_train.encoder.backends.graph_encoder import GraphEncoder
from sciembed_train.encoder.backends.graph_files import FILES, Backend, graph_path
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.settings import is_causal
from sciembed_train.errors import RunError, UserError
from sciembed_train.export import onnx_graph, openvino_graph
from sciembed_train.export.verification import ExportError, compare, probe_texts

TOLERANCE = 1e-4  # largest difference of an entry of onnxruntime, as `verification.TOLERANCE`
COSINE = 0.99  # smallest cosine of a vector of 8-bit weights with the encoder's
NAMES: dict[Backend, str] = {"onnx": "onnxruntime", "openvino": "the cosine of OpenVINO int8"}


def check_graphs(encoder: Encoder, backends: Sequence[Backend]) -> None:
    """Check before anything is written that the graphs can be.

    Raises:
        UserError: they cannot: a library is missing, or no graph gives the encoder's vectors.
    """
    if not backends:
        return
    if encoder.pooling.per_sentence:
        raise UserError(
            "A multi-vector model gives a vector for each sentence of a paper, and a graph one for "
            "each text. Leave --onnx and --openvino out."
        )
    if is_causal(encoder.config):
        raise UserError(
            f"--onnx and --openvino write encoders, a {encoder.config.model_type} is a decoder: "
            "torch's exporter cannot follow its attention. Leave them out."
        )
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(
            "--onnx and --openvino need the libraries onnx and onnxruntime: "
            "pip install 'sciembed_train[onnx]'."
        ) from error
    if "openvino" in backends:
        openvino_graph.check_installed()
    onnx_graph.check_size(encoder)


def write_graphs(
    encoder: Encoder, folder: Path, backends: Sequence[Backend]
) -> dict[str, float | None]:
    """Write the graphs into an encoder's folder, and compare their vectors with the encoder's.

    Args:
        encoder: on the host in fp32.
        folder: the one that its layout was written to.
        backends: ``onnx``, ``openvino`` or both.

    Returns:
        By the backend's `NAMES`, the largest difference of an entry; for 8-bit weights 1 minus the
        smallest cosine.

    Raises:
        ExportError: a graph gives other vectors than the encoder.
        UserError: the encoder cannot be written as a graph.
    """
    adapters = encoder.settings.adapters
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        onnx_folder = folder if "onnx" in backends else Path(scratch)
        for format in (None,) if adapters is None else adapters.formats:
            path = graph_path(onnx_folder, "onnx", format)
            onnx_graph.write_onnx(encoder, path, format)
            if "openvino" in backends:
                openvino_graph.write_openvino(path, graph_path(folder, "openvino", format))
    return {
        NAMES[backend]: verify_graph(encoder, folder, backend)
        for backend in FILES
        if backend in backends
    }


def verify_graph(encoder: Encoder, folder: Path, backend: Backend) -> float:
    """How far the vectors of a graph are from the encoder's, each text alone and several together.

    Raises:
        ExportError: too far.
    """
    loaded = GraphEncoder.load(folder, backend)
    texts, largest = probe_texts(encoder), 0.0
    for format in encoder.format_reader.names or (None,):
        expected = encoder.encode_texts(texts, format=format)
        for budget in (1, None):
            try:
                actual = loaded.encode_texts(texts, budget, format=format)
            except RunError as error:
                raise ExportError(f"{error} The export was removed.") from error
            if backend == "onnx":
                difference = compare(NAMES[backend], "embeddings", actual, expected, TOLERANCE)
            else:
                difference = 1 - _smallest_cosine(actual, expected)
            largest = max(largest, difference)
    return largest


def _smallest_cosine(actual: Float[Tensor, "N D"], expected: Float[Tensor, "N D"]) -> float:
    """The smallest cosine of a vector and the one expected.

    Raises:
        ExportError: it is below `COSINE`.
    """
    smallest = float(torch.cosine_similarity(actual, expected).min())
    if not smallest >= COSINE:  # also when it is not a number
        raise ExportError(
            f"OpenVINO's vectors with weights of 8 bits have a cosine of {smallest:.4f} with the "
            f"encoder's, and at least {COSINE} is wanted. The export was removed; leave --openvino "
            "out."
        )
    return smallest
