"""The folder of an encoder with adapters: AdapterHub's files, and a whole model for each format.

The backbone alone would give other vectors and say nothing. So it lies in ``base/``, for users of
the library ``adapters``, which put one of ``adapters/`` into it, or all of them and one of
``fusion/``; and everybody else takes ``hf/CODE``, with a model type and a code file of its own,
which refuses to load without it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

from sciembed_train.encoder.adapters.adapter_settings import (
    ADAPTERS_PLACE,
    FUSION_PLACE,
    configuration,
    library,
)
from sciembed_train.encoder.adapters.format_adapters import adapters_of
from sciembed_train.encoder.adapters.fusion import fusion_code
from sciembed_train.encoder.encoder import Encoder
from sciembed_train.encoder.format_reader import BASE_PLACE
from sciembed_train.encoder.io.load_backbone import quiet_transformers
from sciembed_train.encoder.unpadded.bert import why_not_unpadded
from sciembed_train.export.mix_folder import ASKED
from sciembed_train.export.pooled import pooled
from sciembed_train.export.sentence_transformers_layout import write_layout
from sciembed_train.text.input_format import FORMATS

CODE = Path(__file__).with_name("adapted_model.py")
# What `adapted_model.py` computes, as the library's configuration says it.
_WRITTEN = {
    "mh_adapter": False,
    "output_adapter": True,
    "cross_adapter": False,
    "non_linearity": "relu",
    "original_ln_before": True,
    "original_ln_after": True,
    "residual_before_ln": True,
    "ln_before": False,
    "ln_after": False,
    "is_parallel": False,
    "scaling": 1.0,
    "use_gating": False,
    "inv_adapter": None,
    "leave_out": [],
    "phm_layer": False,
}


def why_no_own_code(encoder: Encoder) -> str | None:
    """Why there is no whole model for each format; None where there is."""
    settings = adapters_of(encoder).settings
    config = configuration(settings)
    odd = [key for key, value in _WRITTEN.items() if config.get(key) != value]
    if config.architecture is not None or odd or not isinstance(config["reduction_factor"], int):
        return f"adapters {settings.config} are run by the library alone"
    reason = why_not_unpadded(encoder.backbone)
    return None if reason is None else f"only BERT's family is written so, and its {reason}"


def write_parts(encoder: Encoder, folder: Path, similarity: str) -> None:
    """Write ``hf/`` of a folder that `Encoder.save` wrote, where its code computes the adapters.

    Args:
        encoder: with adapters, on the host, in fp32.
        folder: holds ``sciembed.json``, ``base/`` and ``adapters/``.
        similarity: ``euclidean`` or ``cosine``.
    """
    if why_no_own_code(encoder) is not None:
        return
    backbone = encoder.backbone_config()
    for key in ("architectures", "transformers_version", "dtype"):
        backbone.pop(key, None)
    settings = adapters_of(encoder).settings
    state = encoder.backbone.state_dict()
    for name in settings.formats:
        place = folder / "hf" / FORMATS[name]
        place.mkdir(parents=True)
        for path in sorted((folder / BASE_PLACE).iterdir()):
            if path.name != "config.json" and not path.name.startswith("model"):
                shutil.copyfile(path, place / path.name)  # the tokenizer
        shutil.copyfile(CODE, place / CODE.name)
        tensors = {
            f"backbone.{key}": value.detach().clone().contiguous()
            for key, value in _renamed(encoder, state, name).items()
        }
        down = next(key for key in tensors if key.endswith("adapter_down.0.weight"))
        config: dict[str, Any] = {
            **_named("Adapted"),
            **{key: getattr(encoder.backbone.config, key, None) for key in ASKED},
            "bottleneck": len(tensors[down]),
            "task_format": name,
            "backbone": backbone,
        }
        if settings.fusion is not None:
            values = any(key.endswith("fusion.value.weight") for key in tensors)
            config |= _named("Fused")
            config |= {"adapters": len(settings.adapted), "values": values}
        (place / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
        write_layout(
            place,
            dim=encoder.dim,
            pooling=str(encoder.pooling.sentence_transformers_mode),
            max_length=encoder.settings.max_length,
            similarity=similarity,
        )


def _named(kind: str) -> dict[str, Any]:
    """What a configuration says of its model in the code file."""
    return {
        "architectures": [f"{kind}Model"],
        "auto_map": {
            "AutoConfig": f"{CODE.stem}.{kind}Config",
            "AutoModel": f"{CODE.stem}.{kind}Model",
        },
        "model_type": f"sciembed_{kind.lower()}",
    }


def _renamed(encoder: Encoder, state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The backbone's tensors and those of a format, by the names that the code file gives them."""
    reader = adapters_of(encoder)
    settings = reader.settings
    own = {k: v for k, v in state.items() if reader.is_base(k)}
    parts = {f".adapters.{FORMATS[name]}.": "."}
    if settings.fusion is not None:
        fusion = fusion_code(settings, name)
        parts = {f".adapters.{c}.": f".adapters.{n}." for n, c in enumerate(fusion.split(","))}
        parts[f".adapter_fusion_layer.{fusion}."] = ".fusion."
    for theirs, ours in parts.items():
        own |= {k.replace(theirs, ours): v for k, v in state.items() if theirs in k}
    return {k: v for k, v in own.items() if not k.startswith("pooler.")}


def with_adapterhub(
    encoder: Encoder, folder: Path, texts: Sequence[str]
) -> list[Float[Tensor, "N D"]]:
    """Embeddings as a user of the library ``adapters`` gets them, by each format's in turn."""
    from transformers import AutoModel, AutoTokenizer

    adapters = library()
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(str(folder / BASE_PLACE), local_files_only=True)
        model: Any = AutoModel.from_pretrained(str(folder / BASE_PLACE), local_files_only=True)
    adapters.init(model)
    settings = adapters_of(encoder).settings
    for name in settings.adapted:
        model.load_adapter(str(folder / ADAPTERS_PLACE / FORMATS[name]))
    found = []
    for name in settings.formats:
        setup = FORMATS[name]
        if settings.fusion is not None:
            model.load_adapter_fusion(str(folder / FUSION_PLACE / setup), set_active=False)
            setup = adapters.Fuse(*fusion_code(settings, name).split(","))
        with adapters.AdapterSetup(setup):
            found.append(library_vectors(encoder, model, tokenizer, texts))
    return found


def library_vectors(
    encoder: Encoder, model: Any, tokenizer: Any, texts: Sequence[str]
) -> Float[Tensor, "N D"]:
    """Embeddings by a model of transformers as it stands, pooled as the encoder does."""
    vectors = []
    with torch.inference_mode():
        # Two at a time, so that padding takes part.
        for start in range(0, len(texts), 2):
            pair = list(texts[start : start + 2])
            batch = tokenizer(pair, padding=True, truncation=True, return_tensors="pt")
            hidden = model.eval()(**batch).last_hidden_state
            vectors.append(pooled(encoder, hidden, batch["attention_mask"]))
    return torch.cat(vectors).float().clone()


def loads_without_warning(folder: Path) -> str | None:
    """Which part but the base a plain ``AutoModel`` would load; none should."""
    from transformers import AutoModel

    for place in (folder, *sorted((folder / "hf").glob("*"))):
        try:
            with quiet_transformers():
                AutoModel.from_pretrained(
                    str(place), local_files_only=True, trust_remote_code=False
                )
        except (OSError, ValueError):
            continue
        return "the folder itself" if place == folder else f"hf/{place.name}"
    return None
