"""Embeddings of models with a code file of their own, computed in a separate process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

READER = Path(__file__).with_name("custom_code_reader.py")


def with_custom_codes(
    folders: Sequence[Path], texts: Sequence[str], pooling: str = "cls"
) -> list[tuple[list[list[int]], Float[Tensor, "N D"]]]:
    """Token ids and embeddings as a user of transformers gets them with the models' own code.

    Raises:
        RuntimeError: one could not be loaded so; the message says why.
    """
    with tempfile.TemporaryDirectory() as temporary:
        texts_file, result = Path(temporary) / "texts.json", Path(temporary) / "result.pt"
        texts_file.write_text(json.dumps(list(texts)), encoding="utf-8")
        done = subprocess.run(
            # -P: a folder of files named like libraries must not come first in the path.
            [sys.executable, "-P", *map(str, (READER, texts_file, result, pooling, *folders))],
            env={**os.environ, "HF_MODULES_CACHE": f"{temporary}/modules", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
            raise RuntimeError(lines[-1])
        models = torch.load(result, weights_only=True)
    return [(model["ids"], model["vectors"]) for model in models]
