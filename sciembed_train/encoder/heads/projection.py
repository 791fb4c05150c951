"""A linear layer after the pooling, in the layout of sentence-transformers' module Dense.

Shapes: ``P`` texts, ``H`` width of a pooled vector, ``D`` of an embedding.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from sciembed_train.encoder.heads.projection_files import IDENTITY
from sciembed_train.errors import UserError


def new_projection(width: int, dim: int) -> nn.Linear:
    """A layer without bias that gives the first ``dim`` of ``width`` numbers as they are.

    Args:
        width: of a pooled vector, ``H``.
        dim: of an embedding, ``D``; numbers above ``width`` are 0 until they are trained.
    """
    projection = nn.Linear(width, dim, bias=False)
    with torch.no_grad():
        projection.weight.copy_(torch.eye(dim, width))
    return projection


def save_projection(projection: nn.Linear, folder: Path) -> None:
    """Write its weights and their description into the folder of a module Dense."""
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    weight = projection.weight.detach().float().cpu().contiguous()
    save_file({"linear.weight": weight}, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "in_features": projection.in_features,
        "out_features": projection.out_features,
        "bias": False,
        "activation_function": IDENTITY,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def load_projection(folder: Path, width: int, dim: int) -> nn.Linear:
    """The layer of a module Dense.

    Args:
        folder: of the module.
        width: of the pooled vectors that it gets.
        dim: of the vectors that it is to give.

    Raises:
        UserError: the weights are missing, or of another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    try:
        weight = load_file(path)["linear.weight"]
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(
            f"{path}: holds no weights of a linear layer ({' '.join(str(error).split())}). Export "
            "or fetch the model again."
        ) from error
    if tuple(weight.shape) != (dim, width):
        raise UserError(
            f"{path}: takes and gives {weight.shape[-1]} and {len(weight)} numbers; expected "
            f"{width} and {dim}. Export or fetch the model again."
        )
    projection = new_projection(width, dim)
    projection.load_state_dict({"weight": weight.float()})
    return projection
