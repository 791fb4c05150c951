"""Where an encoder's graphs lie in its folder, and what they take and give.

A graph goes from token ids to the final vectors: backbone, pooling and normalisation are inside.
The names are those of sentence-transformers. Importing this imports no runtime.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from sciembed_train.errors import UserError
from sciembed_train.text.input_format import FORMATS

Backend = Literal["torch", "onnx", "openvino"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
FILES: dict[Backend, str] = {
    "onnx": "model.onnx",
    "openvino": "openvino_model_qint8_quantized.xml",
}
IDS, MASK = "input_ids", "attention_mask"  # integers of 64 bits, [texts, slots]
TOKENS, VECTORS = "last_hidden_state", "sentence_embedding"  # [texts, slots, width], [texts, width]


def check_backend(backend: str | None) -> None:
    """Raise UserError unless it is None or one of `BACKENDS`."""
    if backend is not None and backend not in BACKENDS:
        raise UserError(f"--backend is {backend}; expected one of {', '.join(BACKENDS)}.")


def wanted_graphs(onnx: bool, openvino: bool) -> list[Backend]:
    """The backends of these two that are wanted."""
    wanted: dict[Backend, bool] = {"onnx": onnx, "openvino": openvino}
    return [backend for backend, is_wanted in wanted.items() if is_wanted]


def graph_path(folder: Path, backend: Backend, format: str | None = None) -> Path:
    """The file of a graph: one for the encoder, or with adapters one for each format."""
    place = folder / backend
    return (place if format is None else place / FORMATS[format]) / FILES[backend]


def graphs_in(folder: Path) -> list[Backend]:
    """The backends that a folder has a graph for."""
    return [
        backend
        for backend in FILES
        if any(graph_path(folder, backend, format).is_file() for format in (None, *FORMATS))
    ]
