"""LoRA through the library ``peft``: put into a backbone's linear layers, and merged again."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn

from sciembed_train.encoder.adapters.lora_settings import LoraSettings
from sciembed_train.encoder.layers import repeated_layers
from sciembed_train.errors import UserError

# What the library calls the updates' files.
LORA_WEIGHTS, LORA_CONFIG = "adapter_model.safetensors", "adapter_config.json"


def install_lora(backbone: Any, settings: LoraSettings, model: str) -> None:
    """Wrap linear layers in place and freeze all else; what the backbone computes is the same.

    Args:
        backbone: in fp32.
        settings: rank, scale, dropout and layers.
        model: name of the backbone, for messages.

    Raises:
        UserError: the library is absent, or the backbone has no such layers.
    """
    peft = library()
    names = _targets(backbone, settings, model)
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=names,
        bias="none",
    )
    backbone.requires_grad_(False)
    peft.inject_adapter_in_model(config, backbone)


def merge_lora(backbone: Any) -> None:
    """Add every update to its weight, ``W + (alpha / rank) B A``, and take the wrappers away."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(backbone.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge(safe_merge=True)  # pyright: ignore[reportCallIssue]
            parent, _, attribute = name.rpartition(".")
            setattr(backbone.get_submodule(parent), attribute, module.get_base_layer())
    del backbone.peft_config


def save_lora(backbone: Any, base: str, folder: Path) -> None:
    """Write only the updates, as ``peft`` loads them onto the backbone that they were trained in.

    Args:
        backbone: with `install_lora`'s wrappers, not merged.
        base: folder or hub name of the backbone, for ``adapter_config.json``.
        folder: exists.
    """
    from safetensors.torch import save_file

    updates = library().get_peft_model_state_dict(backbone, save_embedding_layers=False)
    # The names in the library's own model around a backbone.
    tensors = {
        f"base_model.model.{name}": value.detach().cpu().contiguous()
        for name, value in updates.items()
    }
    save_file(tensors, folder / LORA_WEIGHTS, metadata={"format": "pt"})
    config = copy.deepcopy(backbone.peft_config["default"])
    config.base_model_name_or_path, config.inference_mode = base, True
    config.task_type = "FEATURE_EXTRACTION"
    config.save_pretrained(str(folder))


def library() -> Any:
    """The package ``peft``.

    Raises:
        UserError: it is not installed, or cannot be imported here.
    """
    try:
        import peft
    except ImportError as error:
        raise UserError(
            f"encoder.lora is trained through the library peft, which cannot be imported ({error})."
            " Install sciembed_train[lora], or set encoder.lora to null."
        ) from error
    return peft


def _targets(backbone: nn.Module, settings: LoraSettings, model: str) -> list[str]:
    """The linear layers that are updated, by their names in the backbone."""
    layer_modules = {
        id(module) for layer in repeated_layers(backbone) for module in layer.modules()
    }
    linear = [
        name
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear) and id(module) in layer_modules
    ]
    unknown = [t for t in settings.targets if not any(_is_of(name, t) for name in linear)]
    if unknown or not linear:
        known = sorted({name.rpartition(".")[2] for name in linear})
        raise UserError(
            f"encoder.lora.targets is {list(settings.targets)}, but {model} has no linear layer "
            f"{', '.join(unknown)} in its layers; they have {', '.join(known) or 'none'}."
        )
    wanted = settings.targets
    return [n for n in linear if not wanted or any(_is_of(n, t) for t in wanted)]


def _is_of(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
