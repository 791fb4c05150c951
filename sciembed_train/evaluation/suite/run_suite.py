"""Every model on every entry of a suite, each pair once, with its scores in a file of its own.

A run that was stopped continues: what has its file is read from it, unless the model, the data or
the settings have changed; vectors that were computed are kept (`vector_cache`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sciembed_train.corpus.readers.files import sha256
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS
from sciembed_train.evaluation.benchmarks.result import NoQueriesError
from sciembed_train.evaluation.evaluate_settings import BASELINES, EvaluateSettings
from sciembed_train.evaluation.open_system import Systems
from sciembed_train.evaluation.precomputed import MissingVectorsError
from sciembed_train.evaluation.run_benchmark import run_benchmark
from sciembed_train.evaluation.scores import Scores
from sciembed_train.evaluation.scoring import scoring_of
from sciembed_train.evaluation.suite.entries import Entry, Suite, open_suite
from sciembed_train.evaluation.suite.mteb_results import read_mteb_results
from sciembed_train.evaluation.suite.stored_forms import (
    StoredForm,
    check_any_stored,
    stored_forms,
)
from sciembed_train.evaluation.suite.suite_settings import SuiteSettings
from sciembed_train.inference.embedding import open_encoder
from sciembed_train.inference.options import EmbedSettings, ScoreSettings
from sciembed_train.inference.output_file import write_json
from sciembed_train.inference.vectors_by_id import vectors_hash
from sciembed_train.progress import Progress
from sciembed_train.safety.find_model import find_folder, model_place

QUICK = 500  # papers or queries of each set
VERSION = 1  # of the scores; raise it where the same model would score otherwise


@dataclass(frozen=True)
class SuiteScores:
    """The scores of all models.

    Args:
        suite: what was scored.
        models: the columns: models in the order of the command, each with its stored forms behind
            it; after them files of vectors, and models that only mteb has scored.
        scores: by entry and model; a pair that cannot be scored is not there.
        skipped: why, by entry and model.
        published: whether published scores are shown beside these.
        of_mteb: scores of mteb by task and model.
        stored: of the columns that are stored forms, the model and the form.
    """

    suite: Suite
    models: Sequence[str]
    scores: Mapping[tuple[str, str], Scores]
    skipped: Mapping[tuple[str, str], str]
    published: bool = False
    of_mteb: Mapping[tuple[str, str], float] = field(default_factory=dict)
    stored: Mapping[str, tuple[str, StoredForm]] = field(default_factory=dict)

    @property
    def whole(self) -> list[str]:
        """The models without the stored forms."""
        return [model for model in self.models if model not in self.stored]


def run_suite(
    settings: SuiteSettings, embed: EmbedSettings | None = None, quiet: bool = False
) -> SuiteScores:
    """The scores of the models of a suite.

    Args:
        settings: models, suite, and where the scores go.
        embed: how all models embed.
        quiet: show no progress.

    Raises:
        UserError: a model, a benchmark or a setting cannot be used.
    """
    embed, progress = embed or EmbedSettings(), Progress(quiet)
    suite = open_suite(settings.suite).only(settings.only)
    to = Path(settings.to)
    # A wrong name ends it here.
    identities = {model: model_hash(model) for model in settings.model}
    identities |= {path: vectors_hash(path) for path in settings.embeddings}
    of_mteb = {} if settings.mteb_results is None else read_mteb_results(settings.mteb_results)
    columns = _columns(settings, embed)
    scores: dict[tuple[str, str], Scores] = {}
    skipped: dict[tuple[str, str], str] = {}
    for column, (model, form) in columns.items():
        systems = Systems()
        for entry in suite.entries:
            pair = entry.name, column
            if form is not None and (entry.name, model) not in scores:
                continue  # it is told of the model
            if BENCHMARKS[entry.benchmark].needs_vectors and model == "bm25":
                skipped[pair] = "has no vectors"
                continue
            request = _request(entry, model, settings, embed, to, quiet, form)
            key = _key(request, identities[model])
            file = to / "scores" / _file_name(column) / f"{_file_name(entry.name)}.json"
            found = _read(file, key)
            if found is None:
                progress.print(f"{entry.name}: {column}")
                try:
                    found = run_benchmark(request, systems)
                except NoQueriesError as error:
                    skipped[pair] = f"has nothing to be asked ({str(error).rstrip('.')})"
                    continue
                except MissingVectorsError as error:
                    skipped[pair] = f"has not all vectors ({str(error).rstrip('.')})"
                    continue
                file.parent.mkdir(parents=True, exist_ok=True)
                more = {"query_texts": found.query_texts, "test_queries": found.test_queries}
                write_json(file, found.as_dict() | more | {"key": key})
            scores[pair] = found
    models = list(dict.fromkeys([*columns, *(model for _, model in of_mteb)]))
    stored = {name: (model, form) for name, (model, form) in columns.items() if form is not None}
    return SuiteScores(suite, models, scores, skipped, settings.published, of_mteb, stored)


def _columns(
    settings: SuiteSettings, embed: EmbedSettings
) -> dict[str, tuple[str, StoredForm | None]]:
    """The model or file of vectors of each column, and the form in which vectors are stored.

    Raises:
        UserError: there are forms and no model that has them, or a model has fewer numbers than a
            dim; before anything is scored.
    """
    forms = stored_forms(settings.dim, settings.dtypes)
    models = [model for model in settings.model if forms and _one_vector(model, embed)]
    check_any_stored(forms, models)
    for model in models if settings.dim else ():
        open_encoder(model, replace(embed, dim=max(settings.dim)), by_format=True)
    columns: dict[str, tuple[str, StoredForm | None]] = {}
    for model in (*settings.model, *settings.embeddings):
        columns[model] = model, None
        own = forms if model in models else ()
        columns |= {form.column(model): (model, form) for form in own}
    return columns


def _one_vector(model: str, embed: EmbedSettings) -> bool:
    """Whether a model is compared by one vector a text."""
    if model in BASELINES:
        return False
    return scoring_of(model, embed, ScoreSettings()).scorer == "document"


def model_hash(model: str) -> str:
    """A hash of the files of a model; the name of a baseline.

    Raises:
        UserError: no such model.
    """
    if model in BASELINES:
        return model
    folder = find_folder(model_place(model))
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()[:16]


def _request(
    entry: Entry,
    model: str,
    settings: SuiteSettings,
    embed: EmbedSettings,
    to: Path,
    quiet: bool,
    form: StoredForm | None,
) -> EvaluateSettings:
    score = ScoreSettings()
    if form is not None:
        embed = replace(embed, dim=form.dim or embed.dim)
        score = ScoreSettings(dtype=None if form.dtype == "float32" else form.dtype)
    given = model in settings.embeddings
    if given or model in BASELINES:  # which read no text behind a prompt, and have no more numbers
        embed = replace(embed, dim=None, prompt=None, backend=None)
    request = EvaluateSettings(
        entry.benchmark,
        entry.data,
        None if given else model,
        embeddings=model if given else None,
        score=replace(score, similarity=settings.similarity if given else None),
        ties=settings.ties,
        seed=settings.seed,
        embed=embed,
        quiet=quiet,
        cache=to / "vectors",
    )
    options: dict[str, Any] = {}
    known = BENCHMARKS[entry.benchmark].options
    for name in ("sample", "queries"):
        if name in known and (settings.quick or settings.full):
            options[name] = QUICK if settings.quick else 0
    if "query_prompt" in known:
        options["query_prompt"] = settings.query_prompt
    options |= dict(entry.options)
    if given or model in BASELINES:
        options.pop("query_prompt", None)
    return replace(request, **options)


def _key(request: EvaluateSettings, model: str) -> str:
    """A hash of everything that scores depend on; of the data their names, sizes and times."""
    left_out = ("quiet", "cache", "model", "embeddings", "run_to")
    values = {f.name: repr(getattr(request, f.name)) for f in fields(request)}
    for name in left_out:
        del values[name]
    states = []
    for place in (Path(one) for one in (request.data, request.papers) if one is not None):
        files = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
        states += [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files if p.exists()]
    content = json.dumps([VERSION, values, model, states], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _file_name(name: str) -> str:
    """A name that any file system takes, another one for any other name."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[-60:].strip("-.")
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _read(file: Path, key: str) -> Scores | None:
    """The scores of a file, where it is there and has this key.

    Raises:
        UserError: it is damaged.
    """
    if not file.exists():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Scores.from_dict(content) if content["key"] == key else None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}). Delete it; it is made again.") from error
