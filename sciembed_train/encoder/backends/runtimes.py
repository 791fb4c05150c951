"""Runtimes of graphs: onnxruntime, and OpenVINO; both on the host.

Shapes: ``U`` texts, ``L`` slots of a padded row, ``H`` width of a vector.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64

from sciembed_train.encoder.backends.graph_files import IDS, MASK, VECTORS, Backend
from sciembed_train.errors import RunError, UserError
from sciembed_train.safety.onnx_file import check_onnx_file


class Graph(ABC):
    """A graph that was opened: padded rows of token ids to vectors."""

    @abstractmethod
    def vectors(
        self, ids: Int64[np.ndarray, "U L"], mask: Int64[np.ndarray, "U L"]
    ) -> Float32[np.ndarray, "U H"]:
        """The final vector of each text; ``mask`` is 1 where a row has a token.

        Raises:
            RunError: the runtime cannot run the graph on them.
        """


class OnnxGraph(Graph):
    """A graph run by onnxruntime, on as many threads as torch has.

    Args:
        path: of an ``.onnx`` file.

    Raises:
        UserError: onnxruntime is not installed, or the file is refused (`check_onnx_file`), damaged
            or no graph of a whole encoder.
    """

    def __init__(self, path: Path) -> None:
        check_onnx_file(path)
        self._path = path
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(
                "--backend onnx needs the library onnxruntime: pip install 'sciembed_train[onnx]'."
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # errors are raised as well
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no base class
            raise _unreadable(path, error) from error
        _check_names(
            path,
            {each.name for each in self._session.get_inputs()},
            {each.name for each in self._session.get_outputs()},
        )

    def vectors(
        self, ids: Int64[np.ndarray, "U L"], mask: Int64[np.ndarray, "U L"]
    ) -> Float32[np.ndarray, "U H"]:
        """See `Graph`."""
        try:
            return self._session.run([VECTORS], {IDS: ids, MASK: mask})[0]
        except Exception as error:  # as above
            raise _failed(self._path, error) from error


class OpenVinoGraph(Graph):
    """A graph run by OpenVINO on the CPU, on as many threads as torch has.

    Args:
        path: of an ``.xml`` file, with its weights beside it in the ``.bin`` file of that name.

    Raises:
        UserError: OpenVINO is not installed, or the files are missing, damaged or no graph of a
            whole encoder.
    """

    def __init__(self, path: Path) -> None:
        try:
            import openvino  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError(
                "--backend openvino needs the library openvino: "
                "pip install 'sciembed_train[openvino]'."
            ) from error
        self._path = path
        # Otherwise a CPU with units for bfloat16 would multiply in bfloat16.
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        try:
            core = openvino.Core()
            model: Any = core.read_model(str(path))
            self._request: Any = core.compile_model(model, "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise _unreadable(path, error) from error
        inputs = {name for port in model.inputs for name in port.get_names()}
        outputs = {name for port in model.outputs for name in port.get_names()}
        _check_names(path, inputs, outputs)

    def vectors(
        self, ids: Int64[np.ndarray, "U L"], mask: Int64[np.ndarray, "U L"]
    ) -> Float32[np.ndarray, "U H"]:
        """See `Graph`."""
        try:
            return self._request.infer({IDS: ids, MASK: mask})[VECTORS].copy()
        except RuntimeError as error:
            raise _failed(self._path, error) from error


def open_graph(path: Path, backend: Backend) -> Graph:
    """The graph of a file, by the runtime of its kind.

    Raises:
        UserError: as for `OnnxGraph` and `OpenVinoGraph`.
    """
    return OnnxGraph(path) if backend == "onnx" else OpenVinoGraph(path)


def _check_names(path: Path, inputs: set[str], outputs: set[str]) -> None:
    """Check what a graph takes and gives.

    Raises:
        UserError: they are not those of a graph of a whole encoder.
    """
    if inputs != {IDS, MASK} or VECTORS not in outputs:
        raise UserError(
            f"{path}: takes {', '.join(sorted(inputs))} and gives {', '.join(sorted(outputs))}; "
            f"expected a graph of a whole encoder, which takes {IDS} and {MASK} and gives "
            f"{VECTORS}, pooled and scaled. Write one by import or export with --onnx."
        )


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be opened ({_reason(error)}). Export the model again.")


def _failed(path: Path, error: Exception) -> RunError:
    return RunError(f"{path}: cannot be run on these texts ({_reason(error)}).")


def _reason(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0][:200].rstrip(".")
