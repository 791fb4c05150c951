"""The folder of an encoder with adapters: AdapterHub's files, and a whole model for each format.

The backbone alone would give other vectors without a warning. So it lies in ``base/``, for users
of the library ``adapters``, which loads one of ``adapters/`` into it, or all of them and one of
``fusion/``. Without that library ``hf/CODE`` is loaded, with a model type and a code file of its
own, which refuses to load without its code.
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
from sciembed_train.export.layouts.layer_mix_layout import COMMON_KEYS
from sciembed_train.export.layouts.plain_layout import PlainLayout, save_encoder
from sciembed_train.export.library_vectors import custom_code_vectors, model_vectors
from sciembed_train.export.model_card import card_metadata, card_values, render_card
from sciembed_train.export.sentence_transformers_files import write_sentence_transformers
from sciembed_train.export.verification import check_refused, compare, probe_texts
from sciembed_train.text.input_format import FORMATS

CODE = Path(__file__).parents[1] / "adapted_model.py"
# What `adapted_model.py` computes, by the names of the library's configuration.
_SUPPORTED = {
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


class AdaptersLayout(PlainLayout):
    """``base/``, ``adapters/``, ``fusion/`` and ``hf/``."""

    def write(self, encoder: Encoder, folder: Path, record: dict[str, Any]) -> None:
        """See `ExportLayout`."""
        save_encoder(encoder, folder, record)
        write_parts(encoder, folder, record["similarity"])

    def verify(
        self, encoder: Encoder, folder: Path, record: dict[str, Any]
    ) -> dict[str, float | None]:
        """See `ExportLayout`."""
        formats = adapters_of(encoder).settings.formats
        parts = sorted(f"hf/{path.name}" for path in (folder / "hf").glob("*"))
        check_refused(folder, ("", *parts), "its adapter")
        texts = probe_texts(encoder)
        vectors = {"AutoModel and adapters": with_adapterhub(encoder, folder, texts)}
        if why_no_own_code(encoder) is None:
            folders = [folder / "hf" / FORMATS[name] for name in formats]
            vectors["AutoModel with trust_remote_code"] = custom_code_vectors(
                encoder, folders, texts, str(encoder.pooling.sentence_transformers_mode)
            )
        expected = [encoder.encode_texts(texts, format=name) for name in formats]
        return {
            library: max(
                compare(f"{library} ({FORMATS[name]})", "embeddings", actual, wanted)
                for name, actual, wanted in zip(formats, per_format, expected, strict=True)
            )
            for library, per_format in vectors.items()
        }

    def describe(self, encoder: Encoder, record: dict[str, Any], name: str) -> str:
        """See `ExportLayout`."""
        settings = adapters_of(encoder).settings
        trained = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
        shown = "proximity" if "proximity" in settings.formats else settings.formats[0]
        values = {
            **card_values(encoder, record, name),
            "formats": {format: FORMATS[format] for format in settings.formats},
            "format_reader": "adapter",
            "shown_code": FORMATS[shown],
            "whole_models": why_no_own_code(encoder) is None,
            "fusion": settings.fusion,
            "adapter_codes": [FORMATS[format] for format in settings.adapted],
            "adapter_config": settings.config,
            "parameters_each": trained // len(settings.formats),
        }
        return render_card(
            "adapters.md.jinja", card_metadata(record, sentence_transformers=False), values
        )


def why_no_own_code(encoder: Encoder) -> str | None:
    """Why there is no whole model for each format; None where there is."""
    config = configuration(adapters_of(encoder).settings)
    odd = [key for key, value in _SUPPORTED.items() if config.get(key) != value]
    if config.architecture is not None or odd or not isinstance(config["reduction_factor"], int):
        return f"adapters {adapters_of(encoder).settings.config} are run by the library alone"
    reason = why_not_unpadded(encoder.backbone)
    return None if reason is None else f"only BERT's family is written so, and its {reason}"


def write_parts(encoder: Encoder, folder: Path, similarity: str) -> None:
    """Write ``hf/`` of a folder that `Encoder.save` wrote, where its code computes the adapters."""
    if why_no_own_code(encoder) is not None:
        return
    backbone = encoder.backbone_config()
    for key in ("architectures", "transformers_version", "dtype"):
        backbone.pop(key, None)
    names = adapters_of(encoder).settings.formats
    state = encoder.backbone.state_dict()
    for name in names:
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
            **_model_names("Adapted"),
            **{key: getattr(encoder.backbone.config, key, None) for key in COMMON_KEYS},
            "bottleneck": len(tensors[down]),
            "task_format": name,
            "backbone": backbone,
        }
        settings = adapters_of(encoder).settings
        if settings.fusion is not None:
            values = any(key.endswith("fusion.value.weight") for key in tensors)
            config |= _model_names("Fused")
            config |= {"adapters": len(settings.adapted), "values": values}
        (place / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
        write_sentence_transformers(
            place,
            dim=encoder.dim,
            pooling=str(encoder.pooling.sentence_transformers_mode),
            max_length=encoder.settings.max_length,
            similarity=similarity,
        )


def _model_names(kind: str) -> dict[str, Any]:
    """The entries of a configuration that name its model in the code file."""
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
    settings = adapters_of(encoder).settings
    own = {k: v for k, v in state.items() if adapters_of(encoder).is_base(k)}
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
    """Embeddings as a user of the library ``adapters`` gets them, for each format."""
    from transformers import AutoModel, AutoTokenizer

    adapters = library()
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(str(folder / BASE_PLACE), local_files_only=True)
        model: Any = AutoModel.from_pretrained(str(folder / BASE_PLACE), local_files_only=True)
    adapters.init(model)
    settings = adapters_of(encoder).settings
    for name in settings.adapted:
        model.load_adapter(str(folder / ADAPTERS_PLACE / FORMATS[name]))
    vectors = []
    for name in settings.formats:
        setup = FORMATS[name]
        if settings.fusion is not None:
            model.load_adapter_fusion(str(folder / FUSION_PLACE / setup), set_active=False)
            setup = adapters.Fuse(*fusion_code(settings, name).split(","))
        with adapters.AdapterSetup(setup):
            vectors.append(model_vectors(encoder, model, tokenizer, texts))
    return vectors
