"""How many bytes one rank sends in an optimiser step, by the recipe and the number of GPUs.

Of ``W`` ranks, ring algorithms make each send ``2 (W - 1) / W`` times the size of what is summed
for all, and ``(W - 1) / W`` times the whole of what is gathered, or summed and shared out. NCCL's
rings do so, and gloo's, except that gloo shares sums out by summing them for all.
`benchmarks/speed/scaling.py` counts what is sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sciembed_train.config.recipe_options import Recipe
from sciembed_train.config.stand_ins import NO_METHOD
from sciembed_train.errors import UserError

FP32 = 4  # bytes; weights, gradients and the vectors of a loss are exchanged in it


@dataclass(frozen=True)
class Volume:
    """One exchange of a step."""

    name: str
    sent: int
    detail: str


@dataclass(frozen=True)
class Weights:
    """Numbers of parameters.

    Args:
        trained: those with a gradient.
        layers: of all, those of the backbone's repeated layers.
        all: with what is frozen, as the pooler.
        width: of an embedding.
    """

    trained: int
    layers: int
    all: int
    width: int


def summed(size: int, ranks: int) -> int:
    """Bytes that each rank sends so that all have the sum of ``size`` bytes of each."""
    return 2 * size * (ranks - 1) // ranks


def gathered(size: int, ranks: int) -> int:
    """Bytes that each rank sends so that all have ``size`` bytes together, or their parts' sums."""
    return size * (ranks - 1) // ranks


def volumes(weights: Weights, rows: int | None, ranks: int, shared: bool) -> list[Volume]:
    """What a step exchanges; ``rows`` are the vectors that all ranks gather, if it is known."""
    found: list[Volume] = []
    if shared:
        once, again = FP32 * weights.all, FP32 * weights.layers
        found += [
            Volume("weights, forward", gathered(once, ranks), "each pass, all weights"),
            Volume("weights, backward", gathered(again, ranks), "each pass, layers once more"),
            Volume("gradients", gathered(FP32 * weights.trained, ranks), "each pass, summed"),
        ]
    else:
        size = FP32 * weights.trained
        what = f"{weights.trained:,} trained parameters in fp32, once a step"
        found.append(Volume("gradients", summed(size, ranks), what))
    if rows:
        size = FP32 * rows * weights.width
        what = f"{rows:,} vectors {weights.width} wide in fp32"
        found.append(Volume("vectors, forward", gathered(size, ranks), what))
        found.append(Volume("vectors, backward", gathered(size, ranks), "their gradients"))
    return found


def gathered_rows(method: str, model: Mapping[str, Any], data: Mapping[str, Any]) -> int | None:
    """Vectors that all ranks together gather for a step's loss; None where it is not known."""
    batch = int(data.get("batch_size", 32))
    if method == "Specter":
        return 0
    if method == "Cocite":
        return 0 if model.get("negatives") == "local" else batch
    if method == "Declutr":
        from sciembed_train.sampling.spans import SpanSampling

        sampling = SpanSampling(**(data.get("sampling") or {}).get("init_args", {}))
        anchors = batch * sampling.num_anchors
        return 2 * anchors if model.get("contrastive_weight", 1.0) else 0
    return None


def weights_of(encoder: Mapping[str, Any], head: bool) -> Weights:
    """The numbers of parameters, from the configuration of the backbone alone.

    Args:
        encoder: ``model.init_args.encoder`` of a recipe; its backbone and pooling are read.
        head: whether a masked-language-modelling head is trained too.

    Raises:
        UserError: there is no such backbone, or transformers cannot build it.
    """
    import torch
    from transformers import AutoModel

    from sciembed_train.encoder.heads.masked_lm_head import MaskedLMHead
    from sciembed_train.encoder.io.load_backbone import checked_config, quiet_transformers
    from sciembed_train.encoder.io.model_metadata import read_metadata
    from sciembed_train.encoder.layers import repeated_layers
    from sciembed_train.encoder.pooling.base import pooling_class
    from sciembed_train.encoder.settings import EncoderSettings
    from sciembed_train.safety.find_model import find_folder

    folder = read_metadata(find_folder(encoder["backbone"]), "cls").backbone
    config = checked_config(folder)
    with torch.device("meta"), quiet_transformers():
        if head:
            backbone, top = MaskedLMHead.new(config)
        else:
            backbone, top = AutoModel.from_config(config, trust_remote_code=False), None
    parts = [backbone] if top is None else [backbone, top]
    counted = {id(p): p.numel() for part in parts for p in part.parameters()}
    pooler = getattr(backbone, "pooler", None)
    frozen = sum(p.numel() for p in pooler.parameters()) if pooler is not None else 0
    inner = sum(p.numel() for layer in repeated_layers(backbone) for p in layer.parameters())
    name = encoder.get("pooling", "cls")
    with torch.device("meta"):
        pooling = pooling_class(name)(EncoderSettings(encoder["backbone"], name), config)
    total = sum(counted.values()) + sum(p.numel() for p in pooling.parameters())
    total += int(config.hidden_size) * (encoder.get("projection") or 0)
    return Weights(total - frozen, inner, total, int(config.hidden_size))


def of_recipe(recipe: Recipe, ranks: int) -> Iterator[Volume]:
    """What a step of a recipe exchanges among so many ranks.

    Raises:
        UserError: it names no method or backbone, the ranks cannot share the batch, or it trains
            adapters or low-rank updates alone.
    """
    model, data, trainer = (recipe.namespace[key] for key in ("model", "data", "trainer"))
    name = model.class_path.rpartition(".")[2]
    if model.class_path == NO_METHOD or not recipe.backbone:
        raise UserError(
            "doctor --gpus counts what a recipe exchanges; give one that names model.class_path "
            "and encoder.backbone: -c specter."
        )
    arguments = model.init_args.as_dict()
    encoder = arguments["encoder"]
    small = [key for key in ("adapters", "lora") if encoder[key] is not None]
    if small:
        raise UserError(
            f"doctor --gpus counts whole backbones; a recipe of {small[0]} exchanges their weights "
            "alone, some hundredths of it."
        )
    if data.batch_size % ranks:
        raise UserError(f"data.batch_size={data.batch_size} cannot be shared by {ranks} ranks.")
    head = name == "Declutr" and bool(arguments["mlm_weight"])
    rows = gathered_rows(name, arguments, data.as_dict())
    yield from volumes(weights_of(encoder, head), rows, ranks, trainer.strategy == "fsdp")
    if rows is None:
        yield Volume("vectors", 0, f"not counted: they depend on the examples of {name}")
