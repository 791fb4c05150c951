"""The folder of an encoder that mixes its layers, in which no library finds a plain model.

Its backbone alone would give other vectors and say nothing. So there are two folders for others:
``st/`` for sentence-transformers, whose own modules make the mix, with the backbone in a
sub-folder; and ``hf/`` for transformers, with a model type and a code file of its own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.io.load_backbone import quiet_transformers
from sciembed_train.encoder.pooling.layer_mix import LayerMix
from sciembed_train.export.run_custom_code import with_custom_codes
from sciembed_train.export.sentence_transformers_layout import write_layout, write_mix_layout

CODE = Path(__file__).with_name("layer_mix.py")
# What other libraries ask of a configuration, whatever the backbone is.
ASKED = ("hidden_size", "num_hidden_layers", "max_position_embeddings", "pad_token_id")


def write_parts(encoder: Encoder, folder: Path, similarity: str) -> None:
    """Complete ``st/`` and write ``hf/`` of a folder that `Encoder.save` wrote.

    Args:
        encoder: with pooling ``mix``, on the host, in fp32.
        folder: holds ``sciembed.json``, and the backbone in ``st/``.
        similarity: ``euclidean`` or ``cosine``.
    """
    pooling = encoder.pooling
    assert isinstance(pooling, LayerMix)
    length = encoder.settings.max_length
    write_mix_layout(
        folder / "st",
        dim=encoder.dim,
        shares=pooling.shares(),
        max_length=length,
        similarity=similarity,
    )
    hf = folder / "hf"
    hf.mkdir()
    for path in sorted((folder / pooling.backbone_place).iterdir()):
        if path.name not in ("config.json", "sentence_bert_config.json") and not (
            path.name.startswith("model")
        ):  # what is left is the tokenizer
            shutil.copyfile(path, hf / path.name)
    shutil.copyfile(CODE, hf / CODE.name)
    backbone = encoder.backbone_config()
    for key in ("architectures", "transformers_version", "output_hidden_states", "dtype"):
        backbone.pop(key, None)
    config: dict[str, Any] = {
        "architectures": ["LayerMixModel"],
        "auto_map": {
            "AutoConfig": f"{CODE.stem}.LayerMixConfig",
            "AutoModel": f"{CODE.stem}.LayerMixModel",
        },
        "model_type": "sciembed_layer_mix",
        **{key: getattr(encoder.backbone.config, key, None) for key in ASKED},
        "backbone": backbone,
    }
    (hf / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tensors = {
        f"backbone.{name}": tensor.detach().clone().contiguous()
        for name, tensor in encoder.backbone.state_dict().items()
        if not name.startswith("pooler.")
    }
    tensors["mix"] = pooling.mix.detach().clone()
    save_file(tensors, hf / "model.safetensors", metadata={"format": "pt"})
    # Mixed token by token, so its first token's state is the vector, to sentence-transformers too.
    write_layout(hf, dim=encoder.dim, pooling="cls", max_length=length, similarity=similarity)


def loads_without_warning(folder: Path) -> str | None:
    """Which part a plain ``AutoModel`` would load; none should."""
    from transformers import AutoModel

    for place in ("", "st", "hf"):
        try:
            with quiet_transformers():
                AutoModel.from_pretrained(
                    str(folder / place), local_files_only=True, trust_remote_code=False
                )
        except (OSError, ValueError):
            continue
        return place or "the folder itself"
    return None


def with_custom_code(
    folder: Path, texts: Sequence[str]
) -> tuple[list[list[int]], Float[Tensor, "N D"]]:
    """Token ids and embeddings as a user of transformers gets them from ``hf/``, with its code.

    Raises:
        RuntimeError: it could not be loaded so; the message says why.
    """
    return with_custom_codes([folder / "hf"], texts)[0]
