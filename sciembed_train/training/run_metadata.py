"""The facts of a training that checkpoints, exports and the report hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sciembed_train.corpus.exclusions import MISSING
from sciembed_train.encoder.io.model_metadata import read_metadata
from sciembed_train.encoder.io.training_titles import Titles, read_titles, title_numbers
from sciembed_train.safety.find_model import find_folder
from sciembed_train.sampling.data_module import TrainingData
from sciembed_train.sampling.plan import StepPlan
from sciembed_train.training.recipe_corpus import recipe_sampling


def training_metadata(
    recipe: str, data: TrainingData, plan: StepPlan, total_steps: int, backbone: str
) -> dict[str, Any]:
    """The facts as plain values; ``backbone`` is the name or folder of the first encoder."""
    settings, corpus = data.settings, data.corpus
    counts = {"papers": corpus.n_papers, "documents": corpus.n_documents}
    facts: dict[str, Any] = {
        "recipe": recipe,
        "seed": settings.seed,
        "batch_size": settings.batch_size,
        "processes": plan.world_size,
        f"training_{data.examples.name}": plan.examples,
        "steps_per_epoch": plan.steps_per_epoch,
        "planned_steps": total_steps,
        **{name: count for name, count in counts.items() if count},
        "base_model": Path(backbone).name if Path(backbone).exists() else backbone,
    }
    if excluded := corpus.info.get("excluded"):
        facts["excluded"] = _excluded(excluded)
    texts = recipe_sampling(settings).texts
    if texts != "papers":
        facts["texts"] = texts
    digest = weights_sha256(backbone)
    return facts if digest is None else {**facts, "base_model_sha256": digest}


def training_titles(data: TrainingData, backbone: str) -> Titles | None:
    """The titles of the papers that training reads, and those that the first encoder knows.

    None where the examples are no papers, and nothing is known of the first encoder.
    """
    papers = data.examples.training_papers()
    parts = [] if papers is None else [np.asarray(data.corpus.titles())[papers]]
    before = read_titles(find_folder(backbone))
    parts += [] if before is None else [before]
    return title_numbers(*parts) if parts else None


def _excluded(excluded: Mapping[str, Any]) -> dict[str, Any]:
    """What was kept out of training, without names of single papers."""
    places = {
        name: {**place, MISSING: place[MISSING]["count"]}
        for name, place in excluded["places"].items()
    }
    return {**excluded, "places": places}


def weights_sha256(backbone: str) -> str | None:
    """Hash of the backbone's file of weights; None if it has none of the usual names.

    With a projection, of both files, one after the other.
    """
    metadata = read_metadata(find_folder(backbone), pooling="mean")
    names = ("model.safetensors", "pytorch_model.bin")
    own = [path for name in names if (path := metadata.backbone / name).is_file()]
    if not own:
        return None
    after = metadata.projection_folder
    digest = hashlib.sha256()
    for path in (own[0], *([] if after is None else [after / "model.safetensors"])):
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                digest.update(part)
    return digest.hexdigest()
