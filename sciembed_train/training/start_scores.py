"""The start encoder of a run and BM25, scored before training and kept in the run's folder."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch

from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.encoder.encoder import Encoder, EncoderSettings
from sciembed_train.encoder.io.model_metadata import read_metadata
from sciembed_train.encoder.io.start_model import StartConventions, read_start
from sciembed_train.encoder.pooling.base import pooling_class
from sciembed_train.encoder.pooling.registry import gives_sentence_vectors
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.result import NoQueriesError
from sciembed_train.evaluation.cached_embedding import CachedEmbedding
from sciembed_train.evaluation.guard_folders import GuardFolder
from sciembed_train.evaluation.scoring import Scoring
from sciembed_train.evaluation.systems import Bm25, Model
from sciembed_train.inference.options import SIMILARITIES, EmbedSettings, Similarity
from sciembed_train.inference.output_file import write_json
from sciembed_train.progress import Progress
from sciembed_train.safety.find_model import find_folder
from sciembed_train.text.input_format import InputFormat
from sciembed_train.training.guard_scores import (
    ScoredQueries,
    check_disjoint,
    query_scores,
)
from sciembed_train.training.run_metadata import weights_sha256

# The file of a run's folder that keeps them.
NAME = "start_scores.json"
# A start with longer texts is read to this length, or as far as it is trained.
MOST_TOKENS = 512
MANY_PAPERS = 1000


@dataclass(frozen=True)
class Question:
    """The data that a run's encoders are compared on, and how they embed it.

    Args:
        corpus: with citations and held-out papers.
        guards: more guards, by their names.
        seed: of samples.
        device: where encoders run.
        precision: of their matrix products, that of the training.
        quiet: show no progress.
    """

    corpus: Corpus
    guards: Mapping[str, GuardFolder] = field(default_factory=dict)
    seed: int = 0
    device: str = "cpu"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    quiet: bool = True

    @property
    def embed(self) -> EmbedSettings:
        """The settings for embedding texts."""
        return EmbedSettings(device=self.device, precision=self.precision)

    @property
    def short(self) -> bool:
        """Whether a ranking of all papers takes too short a time for progress to be shown."""
        return self.quiet or self.corpus.n_papers < MANY_PAPERS

    def system(
        self,
        encoder: Encoder,
        scoring: Scoring,
        quiet: bool = True,
        unprojected: CachedEmbedding | None = None,
    ) -> Model:
        """An encoder as what ranks papers; ``unprojected`` as for `Model`."""
        opened = encoder.to(self.device).eval(), scoring
        name = encoder.settings.backbone
        return Model(name, self.embed, quiet, opened=opened, unprojected=unprojected)

    def dev(self, system: Any) -> ScoredQueries:
        """Scores on the dev queries."""
        return query_scores(system, self.corpus, "dev", self.guards, self.seed)

    def test(self, system: Any) -> ScoredQueries:
        """Scores on the test queries."""
        return query_scores(system, self.corpus, "test", self.guards, self.seed)

    def identity(self) -> dict[str, Any]:
        """Everything but the encoder that scores depend on, as plain values."""
        content = (self.corpus.folder / "corpus.json").read_bytes()
        files = {
            name: {
                path.name: [path.stat().st_size, path.stat().st_mtime_ns]
                for path in (sorted(place.iterdir()) if place.is_dir() else [place])
                if path.is_file()
            }
            for name, place in ((name, guard.place) for name, guard in self.guards.items())
        }
        digest = hashlib.sha256(content).hexdigest()
        return {
            "corpus": digest,
            "guards": files,
            "seed": self.seed,
            "precision": self.precision,
        }


@dataclass(frozen=True)
class StartScores:
    """The scores of the start encoder and of BM25.

    Args:
        test: of the queries that give the verdict.
        dev: of those that choose the share of weights; None where none is chosen.
        bm25: BM25's means on the test queries; empty where it is not installed.
        notes: what was left out.
    """

    test: ScoredQueries
    dev: ScoredQueries | None = None
    bm25: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def start_scores(
    question: Question, start: EncoderSettings, scoring: Scoring, cache: Path, choosing: bool
) -> StartScores:
    """The scores of a start encoder, from ``cache`` where model, data and settings are the same.

    No random state is changed.

    Args:
        question: what is scored.
        start: settings of the start encoder, as `start_settings` has them.
        scoring: by what it ranks.
        cache: the JSON file that keeps the scores.
        choosing: whether a share of weights is to be chosen, and so dev queries are scored.

    Raises:
        NoQueriesError: the corpus has no test query.
        UserError: a guard's folder cannot be used.
    """
    identity = {
        **question.identity(),
        "weights": weights_sha256(start.backbone),
        "encoder": json.loads(json.dumps(start.as_dict())),
        "scoring": asdict(scoring),
        "choosing": choosing,
    }
    if (known := _read(cache, identity)) is not None:
        return known
    progress = Progress(question.quiet)
    progress.print("scoring the start encoder before the first step; --verdict off leaves this out")
    with undisturbed(), progress.stage("scoring the start encoder"):
        encoder = Encoder(start)
        test = question.test(question.system(encoder, scoring, question.short))
        dev, notes = None, [*test.notes]
        if choosing:
            try:
                dev = question.dev(question.system(encoder, scoring))
                check_disjoint(dev.scores, test.scores)
                notes += dev.notes
            except NoQueriesError as error:
                notes.append(f"No share of the start's weights is chosen: {error}")
    bm25: dict[str, float] = {}
    try:
        with progress.stage("scoring BM25"):
            bm25 = question.test(Bm25()).means
    except UserError as error:
        notes.append(f"BM25 is not scored: {error}")
    scores = StartScores(test, dev, bm25, notes)
    write_json(cache, {"of": identity, **asdict(scores)})
    return scores


def start_settings(trained: EncoderSettings, similarity: str) -> tuple[EncoderSettings, Scoring]:
    """The start encoder as it is used by itself, and by what it ranks.

    What its files do not say is as the trained encoder has it, but for parts that are yet to learn.

    Args:
        trained: settings of the encoder that is trained from it.
        similarity: by what the trained encoder's vectors are compared.
    """
    own = trained.pooling
    start = read_start(trained.backbone, own)
    metadata = read_metadata(find_folder(trained.backbone), own)
    pooling, longest = start.pooling, max(MOST_TOKENS, trained.max_length)
    if pooling is None or gives_sentence_vectors(pooling):
        pooling = "cls" if pooling_class(own).learned or gives_sentence_vectors(own) else own
    settings = replace(
        trained,
        pooling=pooling,
        normalize=trained.normalize if start.pooling is None else bool(start.normalize),
        max_length=min(start.max_length or trained.max_length, longest),
        input_format=start.input_format or _read_alike(trained.input_format, start),
        projection=start.projection,
        adapters=None if metadata.adapters is None else metadata.adapters.without_start(),
        control_codes=metadata.control_codes,
        mix_init="uniform",
        dropout=None,
        forward="auto",
        attention="auto",
        compile=False,
        lora=None,
        gradient_checkpointing=False,
    )
    compared = start.similarity if start.similarity in SIMILARITIES else similarity
    return settings, Scoring("document", cast(Similarity, compared))


def _read_alike(trained: InputFormat, start: StartConventions) -> InputFormat:
    """The format of a start that records none: the trained one, behind the start's own prompt."""
    return trained if start.empty else replace(trained, prompt=start.prompt)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Restore the random generators of torch, numpy and Python afterwards."""
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - Lightning seeds it
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)  # noqa: NPY002


def _read(cache: Path, identity: dict[str, Any]) -> StartScores | None:
    """The scores of a cache file of the same model, data and settings; else None."""
    try:
        content = json.loads(cache.read_text(encoding="utf-8"))
        if content.pop("of") != identity:
            return None
        test, dev = content.pop("test"), content.pop("dev")
        parts = ScoredQueries(**test), None if dev is None else ScoredQueries(**dev)
        return StartScores(*parts, **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
