"""What models with a code file of their own give, found out in a process of its own."""

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
    """Token ids and embeddings as a user of transformers gets them who trusts the models' code.

    Args:
        folders: of the models.
        texts: what to embed.
        pooling: how states become the vector of a text: ``cls`` or ``mean``.

    Raises:
        RuntimeError: one could not be loaded so; the message says why.
    """
    with tempfile.TemporaryDirectory() as place:
        given, result = Path(place) / "texts.json", Path(place) / "result.pt"
        given.write_text(json.dumps(list(texts)), encoding="utf-8")
        done = subprocess.run(
            # -P: a folder of files named like libraries must not come first in the path.
            [sys.executable, "-P", *map(str, (READER, given, result, pooling, *folders))],
            env={**os.environ, "HF_MODULES_CACHE": f"{place}/modules", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
            raise RuntimeError(lines[-1])
        found = torch.load(result, weights_only=True)
    return [(model["ids"], model["vectors"]) for model in found]
