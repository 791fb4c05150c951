"""The parameters of a backbone by depth, for learning rates that differ by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Layer:
    """A part of the backbone.

    Args:
        name: ``embeddings``, ``layer 0`` (the lowest), ..., or ``top``.
        depth: how far below the top, in layers; 0 is the top itself.
        parameters: of the part, those without gradient among them.
    """

    name: str
    depth: int
    parameters: tuple[nn.Parameter, ...]


def layers_by_depth(backbone: nn.Module) -> list[Layer]:
    """The parts of a backbone from its embeddings to what stands above its last layer.

    The layers are the members of its outermost lists of modules; what is registered before the
    first of them is its embeddings, and what is left is its top (a final norm, a pooler, positions
    that all layers share). The embeddings of ``L`` layers are ``L + 1`` below the top.
    """
    layers = repeated_layers(backbone)
    layer_of_parameter = {
        id(p): index for index, layer in enumerate(layers) for p in layer.parameters()
    }
    members: list[list[nn.Parameter]] = [[] for _ in range(len(layers) + 2)]
    in_embeddings = bool(layers)
    for parameter in backbone.parameters():
        index = layer_of_parameter.get(id(parameter))
        if index is not None:
            in_embeddings = False
        elif in_embeddings:
            index = -1
        else:
            index = len(layers)
        members[index + 1].append(parameter)
    names = ["embeddings", *(f"layer {i}" for i in range(len(layers))), "top"]
    return [
        Layer(name, len(layers) + 1 - index, tuple(parameters))
        for index, (name, parameters) in enumerate(zip(names, members, strict=True))
        if parameters
    ]


def repeated_layers(backbone: nn.Module) -> list[nn.Module]:
    """The members of a backbone's outermost lists of modules."""

    def inside(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if isinstance(child, nn.ModuleList):
                yield from child
            else:
                yield from inside(child)

    return list(inside(backbone))
