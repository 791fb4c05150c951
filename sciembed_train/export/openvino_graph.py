"""A whole encoder for OpenVINO, with weights of 8 bits."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError


def check_installed() -> None:
    """Raise a UserError unless the libraries that write the graph are installed."""
    _libraries()


def write_openvino(onnx: Path, path: Path) -> None:
    """Write an ONNX graph as one of OpenVINO whose weights are integers of 8 bits.

    Each weight matrix, and the embedding table, becomes integers with a scale and a zero point for
    each output: a quarter of the bytes. No texts are needed to calibrate it; activations of 8 bits,
    which were calibrated, came out farther off (all-MiniLM-L6-v2, 200 texts of random words: a
    cosine of 0.985 at least, against 0.999).

    Args:
        onnx: the file of the graph in fp32.
        path: of the ``.xml`` file; the ``.bin`` lies beside it. Its folder is made.

    Raises:
        UserError: openvino or nncf is not installed.
    """
    openvino, nncf = _libraries()
    path.parent.mkdir(parents=True, exist_ok=True)
    model = openvino.Core().read_model(str(onnx))
    # nncf shows tables and bars, and a command's own output may be JSON.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    openvino.save_model(model, str(path), compress_to_fp16=False)


def _libraries() -> tuple[Any, Any]:
    """OpenVINO, and nncf, which makes the integers.

    Raises:
        UserError: one of them is not installed.
    """
    # Otherwise nncf reports its use to Google Analytics, through openvino-telemetry.
    os.environ["NNCF_CI"] = "1"
    try:
        import nncf  # pyright: ignore[reportMissingImports]
        import openvino  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "--openvino needs the libraries openvino and nncf: "
            "pip install 'sciembed_train[openvino]'."
        ) from error
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return openvino, nncf
