"""The folder of an encoder with adapters: AdapterHub's files, and a whole model for each format.

The backbone alone would silently give other vectors. So it lies in ``base/``, for users
of the library ``adapters``, which loads one of ``adapters/`` into it, or all of them and one of
``fusion/``. Without that library ``hf/CODE`` is loaded, with a model type and a code file of its
own, which refuses to load without its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
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
from sciembed_train.encoder.unpadded.bert import Bert
from sciembed_train.encoder.unpadded.forward import family_of, why_not_unpadded
from sciembed_train.export.custom_model import write_custom_model
from sciembed_train.export.export_layout import Differences, Record
from sciembed_train.export.layouts.plain_layout import PlainLayout, save_encoder
from sciembed_train.export.library_vectors import custom_code_vectors, model_vectors
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

    template = "adapters.md.jinja"
    card_library = "sciembed_train"

    def write(self, encoder: Encoder, folder: Path, record: Record) -> None:
        """See `ExportLayout`."""
        save_encoder(encoder, folder, record)
        write_parts(encoder, folder, record["similarity"])

    def verify(self, encoder: Encoder, folder: Path, record: Record) -> Differences:
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

    def card_entries(self, encoder: Encoder, record: Record) -> dict[str, Any]:
        """See `ExportLayout`."""
        settings = adapters_of(encoder).settings
        trained = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
        shown = "proximity" if "proximity" in settings.formats else settings.formats[0]
        return {
            "formats": {format: FORMATS[format] for format in settings.formats},
            "format_reader": "adapter",
            "shown_code": FORMATS[shown],
            "whole_models": why_no_own_code(encoder) is None,
            "fusion": settings.fusion,
            "adapter_codes": [FORMATS[format] for format in settings.adapted],
            "adapter_config": settings.config,
            "parameters_each": trained // len(settings.formats),
        }


def why_no_own_code(encoder: Encoder) -> str | None:
    """Why there is no whole model for each format; None where there is."""
    config = configuration(adapters_of(encoder).settings)
    unsupported = [key for key, value in _SUPPORTED.items() if config.get(key) != value]
    if (
        config.architecture is not None
        or unsupported
        or not isinstance(config["reduction_factor"], int)
    ):
        return f"adapters {adapters_of(encoder).settings.config} are run by the library alone"
    reason = why_not_unpadded(encoder.backbone)
    if reason is None and not isinstance(family_of(encoder.backbone), Bert):
        reason = f"model type is {encoder.backbone.config.model_type}"
    return None if reason is None else f"only BERT's family is written so, and its {reason}"


def write_parts(encoder: Encoder, folder: Path, similarity: str) -> None:
    """Write ``hf/`` of a folder that `Encoder.save` wrote, if its code computes the adapters."""
    if why_no_own_code(encoder) is not None:
        return
    settings, state = adapters_of(encoder).settings, encoder.backbone.state_dict()
    for name in settings.formats:
        tensors = {f"backbone.{k}": v for k, v in _renamed(encoder, state, name).items()}
        down = next(key for key in tensors if key.endswith("adapter_down.0.weight"))
        entries: dict[str, Any] = {"bottleneck": len(tensors[down]), "task_format": name}
        names = ("Adapted", "sciembed_adapted")
        if settings.fusion is not None:
            names = ("Fused", "sciembed_fused")
            values = any(key.endswith("fusion.value.weight") for key in tensors)
            entries |= {"adapters": len(settings.adapted), "values": values}
        write_custom_model(
            encoder,
            folder / "hf" / FORMATS[name],
            folder / BASE_PLACE,
            CODE,
            names,
            tensors,
            entries,
            pooling=str(encoder.pooling.sentence_transformers_mode),
            similarity=similarity,
        )


def _renamed(encoder: Encoder, state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The backbone's tensors and those of a format, by the names that the code file gives them."""
    settings = adapters_of(encoder).settings
    tensors = {k: v for k, v in state.items() if adapters_of(encoder).is_base(k)}
    parts = {f".adapters.{FORMATS[name]}.": "."}
    if settings.fusion is not None:
        fusion = fusion_code(settings, name)
        parts = {f".adapters.{c}.": f".adapters.{n}." for n, c in enumerate(fusion.split(","))}
        parts[f".adapter_fusion_layer.{fusion}."] = ".fusion."
    for theirs, ours in parts.items():
        tensors |= {k.replace(theirs, ours): v for k, v in state.items() if theirs in k}
    return {k: v for k, v in tensors.items() if not k.startswith("pooler.")}


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
