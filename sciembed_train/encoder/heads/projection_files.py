"""Where a projection lies in a model's folder, and what its description says. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError

FOLDER = "2_Dense"  # in an encoder's own folder, as sentence-transformers numbers it
IDENTITY = "torch.nn.modules.linear.Identity"  # the name that library gives to no activation


def projected_width(folder: Path, config: Mapping[str, Any]) -> int:
    """How many numbers a module Dense gives, by its ``config.json``.

    Args:
        folder: of the module, for messages.
        config: what its configuration holds.

    Raises:
        UserError: it has a bias or an activation, or no width.
    """
    path, activation = folder / "config.json", config.get("activation_function", "tanh")
    if config.get("bias", True) or not str(activation).endswith("Identity"):
        raise UserError(
            f"{path}: is a layer with bias or activation ({activation}), and this project runs "
            "linear layers without. Without it the vectors would be others."
        )
    width = config.get("out_features")
    if not isinstance(width, int) or width < 1:
        raise UserError(f"{path}: names no out_features. Fetch the model again.")
    return width
