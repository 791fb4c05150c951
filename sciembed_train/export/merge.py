"""Encoders of one architecture merged: a weighted mean of their weights.

Interpolating a fine-tuned model with its start keeps most of what fine-tuning gained and most of
what the start could do elsewhere: WiSE-FT (Wortsman et al. 2022) for two models, LM-Cocktail (Xiao
et al. 2023) for embedding models and more than two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciembed_train.errors import UserError
from sciembed_train.export.export_checkpoint import describe_differences
from sciembed_train.export.merge_settings import MergeSettings
from sciembed_train.export.published import ImportSettings, Known, what_is_known

if TYPE_CHECKING:
    from torch import Tensor

    from sciembed_train.encoder.encoder import Encoder

# Entries that a merged encoder's record keeps from each model's own.
KEPT = ("method", "recipe", "base_model", "seed")


@dataclass(frozen=True)
class Merge:
    """A folder that was written, and proved by loading it back.

    Args:
        folder: where it is.
        weights: of each model, by its name.
        differences: as those of an `Export`.
        notes: what the models have and the merged one lacks.
    """

    folder: Path
    weights: dict[str, float]
    differences: dict[str, float | None]
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = " + ".join(f"{share:g} x {name}" for name, share in self.weights.items())
        lines = [f"{parts} -> {self.folder}", *self.notes, describe_differences(self.differences)]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "folder": str(self.folder),
            "weights": self.weights,
            "differences": self.differences,
            "notes": self.notes,
        }


def merge_models(settings: MergeSettings) -> Merge:
    """Write the merged encoder as an export.

    Raises:
        UserError: a model cannot be read, the models differ in more than their weights, or the
            folder may not be replaced.
    """
    from sciembed_train.encoder.encoder import Encoder
    from sciembed_train.encoder.io.model_metadata import read_metadata
    from sciembed_train.encoder.io.training_titles import read_titles, title_numbers
    from sciembed_train.export.export_folder import export_encoder
    from sciembed_train.export.merge_checks import first_difference
    from sciembed_train.export.target_folder import check_target
    from sciembed_train.safety.find_model import find_folder, model_place

    target = Path(settings.to)
    check_target(target.expanduser().absolute(), settings.overwrite)
    folders = [find_folder(model_place(model)) for model in settings.models]
    all_metadata = [read_metadata(folder) for folder in folders]
    records = [metadata.record for metadata in all_metadata]
    known = _known(settings, folders)
    # A model that records no input format, as other projects' do, takes that of one that does.
    input_format = next(
        (metadata.input_format for metadata in all_metadata if metadata.input_format is not None),
        None,
    )
    encoders = []
    for model, folder, use, model_metadata in zip(
        settings.models, folders, known, all_metadata, strict=True
    ):
        encoder = Encoder.load(
            folder,
            pooling=use.pooling,
            input_format=model_metadata.input_format or input_format,
            masked_lm="auto",
        )
        if encoder.settings.adapters is not None:
            raise UserError(
                f"{model}: has adapters, and merge works on encoders that are trained whole."
            )
        encoders.append(encoder)
    _add_missing_projections(encoders)
    for model, encoder in zip(settings.models[1:], encoders[1:], strict=True):
        if difference := first_difference(encoders[0], encoder):
            raise UserError(
                f"{settings.models[0]} and {model} cannot be merged: {difference}. Models of one "
                "start, such as an encoder before and after fine-tuning, can."
            )
    names = _names(settings.models)
    notes = merge_encoders(encoders, settings.shares)
    notes += _differences_kept(names, encoders, known)
    shares = dict(zip(names, settings.shares, strict=True))
    card = merged_card(shares, records, known)
    shared = zip(folders, settings.shares, strict=True)
    known_titles = [read_titles(folder) for folder, share in shared if share]
    titles = [part for part in known_titles if part is not None]
    differences = export_encoder(
        encoders[0],
        target,
        card,
        titles=title_numbers(*titles) if titles else None,
        overwrite=settings.overwrite,
    )
    return Merge(target, shares, differences, notes)


def _add_missing_projections(encoders: Sequence[Encoder]) -> None:
    """If one encoder has a projection, give each without one a projection that changes nothing."""
    dims = {encoder.settings.projection for encoder in encoders} - {None}
    for encoder in encoders:
        if encoder.settings.projection is None and len(dims) == 1 and encoder.dim in dims:
            encoder.add_projection(encoder.dim)


def merge_encoders(encoders: Sequence[Encoder], weights: Sequence[float]) -> list[str]:
    """Give the first encoder the weighted mean of all weights.

    It loses a pooler or masked-language-modelling head that one of the others lacks; no embedding
    passes through either.

    Returns:
        Notes on what was removed.
    """
    merged = encoders[0]
    state = weighted_mean([encoder.state_dict() for encoder in encoders], weights)
    notes = []
    if merged.head is not None and any(encoder.head is None for encoder in encoders):
        merged.head = None
        notes.append("The masked-language-modelling head is left out: not all models have one.")
    if any(getattr(encoder.backbone, "pooler", None) is None for encoder in encoders):
        merged.backbone.pooler = None
    merged_state = merged.state_dict()
    merged.load_state_dict({key: value for key, value in state.items() if key in merged_state})
    return notes


def weighted_mean(
    states: Iterable[Mapping[str, Tensor]], weights: Sequence[float]
) -> dict[str, Tensor]:
    """``sum_i w_i x_i`` of each tensor that all states have, in float64, rounded once.

    A state of weight 0 is not added, so weights of 1 and 0 give that one state bit by bit.
    Integer tensors are the first state's.
    """
    sums: dict[str, Tensor] = {}
    first: Mapping[str, Tensor] = {}
    common: set[str] = set()
    for state, weight in zip(states, weights, strict=True):
        common = common & state.keys() if first else set(state)
        first = first or state
        if weight:
            for key, value in state.items():
                part = value.double() * weight
                sums[key] = sums[key] + part if key in sums else part
    return {
        key: sums[key].to(value.dtype) if value.is_floating_point() else value
        for key, value in first.items()
        if key in common
    }


def merged_card(
    shares: Mapping[str, float], records: Sequence[Mapping[str, Any]], known: Sequence[Known]
) -> dict[str, Any]:
    """The record of a merged encoder, for `export_encoder`.

    Args:
        shares: the weight of each model, by its name.
        records: the content of each model's ``sciembed.json``; empty where it has none.
        known: how each is used.
    """
    merged = {
        name: {"weight": share, **{key: record[key] for key in KEPT if record.get(key)}}
        for (name, share), record in zip(shares.items(), records, strict=True)
    }
    texts = {record.get("texts") for record in records if record} or {known[0].texts}
    bases = {record.get("base_model") for record in records if record.get("base_model")}
    return {
        "similarity": known[0].similarity,
        **({"transport": known[0].transport} if known[0].transport else {}),
        **({"texts": text} if len(texts) == 1 and (text := next(iter(texts))) else {}),
        **({"base_model": next(iter(bases))} if len(bases) == 1 else {}),
        "merged": merged,
    }


def _known(settings: MergeSettings, folders: Sequence[Path]) -> list[Known]:
    """How each model is used; what one does not record is taken from another.

    Raises:
        UserError: none records it.
    """
    from dataclasses import replace

    from sciembed_train.encoder.io.model_metadata import read_metadata

    known = []
    for model, folder in zip(settings.models, folders, strict=True):
        recorded = read_metadata(folder).pooling is not None
        request = ImportSettings(
            model,
            to="",
            pooling=None if recorded else settings.pooling,
            similarity=None if recorded else settings.similarity,
        )
        known.append(what_is_known(request, folder))
    pooling = next((use.pooling for use in known if use.pooling), None)
    similarity = next((use.similarity for use in known if use.similarity), settings.similarity)
    if pooling is None or similarity is None:
        raise UserError(
            f"{settings.models[0]}: none of the models records how its vectors are made and "
            "compared. Give --pooling cls or mean and --similarity euclidean or cosine."
        )
    return [
        replace(use, pooling=use.pooling or pooling, similarity=use.similarity or similarity)
        for use in known
    ]


def _differences_kept(
    names: Sequence[str], encoders: Sequence[Encoder], known: Sequence[Known]
) -> list[str]:
    """Notes on what differs between models, where the merged one has the first one's."""
    facts = {
        "scaling to unit length": ["on" if e.settings.normalize else "off" for e in encoders],
        "longest text": [f"{encoder.settings.max_length} tokens" for encoder in encoders],
        "similarity": [str(use.similarity) for use in known],
    }
    return [
        f"The {fact} is {values[0]} as of {names[0]}; that of {name} is {value}."
        for fact, values in facts.items()
        for name, value in zip(names, values, strict=True)
        if value != values[0]
    ]


def _names(models: Sequence[str]) -> list[str]:
    """The models' names for the card: no path above their folders, and none twice."""
    from sciembed_train.export.export_layout import public_name

    names: list[str] = []
    for model in models:
        name = public_name(model)
        number = sum(name == known.partition(" (")[0] for known in names)
        names.append(f"{name} ({number + 1})" if number else name)
    return names
