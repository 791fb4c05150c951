"""By what a model ranks papers: as requested, else as its folder records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sciembed_train.encoder.io.model_metadata import ModelMetadata, read_metadata
from sciembed_train.errors import UserError
from sciembed_train.inference.options import (
    EmbedSettings,
    Scorer,
    ScoreSettings,
    Similarity,
    similarity_of,
)
from sciembed_train.losses.transport import TransportSettings
from sciembed_train.safety.find_model import find_folder, model_place

_BY: dict[Similarity, str] = {
    "euclidean": "Euclidean distance",
    "cosine": "cosine, as the Euclidean distance of unit vectors,",
}


@dataclass(frozen=True)
class Scoring:
    """What decides between papers; the similarity of sentences in their papers is Euclidean."""

    scorer: Scorer
    similarity: Similarity
    transport: TransportSettings | None = None

    def describe(self) -> dict[str, Any]:
        """Plain values, for the results file."""
        by = _BY[self.similarity]
        ranked_by = {
            "document": f"{by} of embeddings, float32",
            "sentences": f"smallest {by} of two sentences encoded alone, float32",
            "facet": f"{by} of means of the title and the sentences of a facet, encoded in their"
            " papers, float32",
            "best_match": f"smallest {by} of two sentences encoded in their papers, float32",
            "transport": "cost sum P C of the entropic transport plan between the sentences encoded"
            " in their papers, C the Euclidean distance, float64 rounded to float32",
        }[self.scorer]
        found = {"scorer": self.scorer, "similarity": self.similarity, "ranked_by": ranked_by}
        return found if self.transport is None else found | {"transport": self.transport.as_dict()}


def scoring_of(folder: str | Path, settings: EmbedSettings, requested: ScoreSettings) -> Scoring:
    """What a model's papers are ranked by: as ``requested``, else as its folder records.

    A folder of a multi-vector model records the scorer, one of a model of single sentences that its
    texts are sentences; any other model compares documents.

    Raises:
        UserError: no such model, it records what is not built, it has no vectors of the kind that
            the scorer compares, or the temperature of transport is neither recorded nor requested.
    """
    recorded = read_metadata(find_folder(model_place(folder)), settings.pooling)
    many = recorded.per_sentence
    scorer = requested.scorer or _recorded_scorer(folder, recorded)
    requested.check(scorer)
    if many and scorer in ("document", "sentences"):
        raise UserError(
            f"{folder}: has vectors of sentences in their papers and none of a whole text, which "
            f"--scorer {scorer} compares. Use --scorer best_match or transport, or name a pooling "
            "for whole texts with --pooling mean or cls."
        )
    if scorer == "transport":
        return Scoring(scorer, "euclidean", _transport(folder, recorded, requested))
    if scorer == "best_match" or (many and requested.similarity is None):
        return Scoring(scorer, "euclidean")
    return Scoring(scorer, similarity_of(requested.similarity, recorded.similarity, folder))


def _recorded_scorer(folder: str | Path, recorded: ModelMetadata) -> Scorer:
    if not recorded.per_sentence:
        return "sentences" if recorded.texts == "sentences" else "document"
    if recorded.similarity not in ("best_match", "transport"):
        raise UserError(
            f"{folder} compares its sentences by {recorded.similarity}; this project has "
            "best_match and transport. Name the one to use with --scorer."
        )
    return cast(Scorer, recorded.similarity)


def _transport(
    folder: str | Path, recorded: ModelMetadata, requested: ScoreSettings
) -> TransportSettings:
    keys = ("temperature", "blur", "scaling")
    overrides = {
        key: getattr(requested, key) for key in keys if getattr(requested, key) is not None
    }
    values = (recorded.transport or {}) | overrides
    if "temperature" not in values:
        raise UserError(
            f"{folder} records no temperature for transport, and the ranking depends on it: name "
            "it with --temperature. 5000 weighs all sentences alike, as otAspire was published; "
            "its released demo has 1."
        )
    return TransportSettings.from_record(values, folder)
