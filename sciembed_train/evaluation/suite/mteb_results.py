"""Scores of the library mteb, read from its folder of results: ``<model>/<revision>/<task>.json``.

A score is the mean of a task's main score over its splits and subsets, as mteb's tables have it.
Nothing of mteb is imported.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sciembed_train.errors import UserError, why_no_file

META = "model_meta.json"  # of a revision, beside its results
OPTION = "--mteb_results"


def read_mteb_results(folder: str | Path) -> dict[tuple[str, str], float]:
    """The scores by task and model; a model with several revisions has one name for each.

    Args:
        folder: with mteb's results in it, or in folders of it.

    Raises:
        UserError: there is no such folder, it has no results, or a file of them is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: {why_no_file(folder, 'folder')} ({OPTION}).")
    found = [
        (task, *_model_of(path), score)
        for path in sorted(folder.resolve().rglob("*.json"))
        for task, score in _scores(path)
    ]
    if not found:
        raise UserError(
            f"{folder}: holds no result of mteb, <model>/<revision>/<task>.json ({OPTION})."
        )
    variants: dict[str, set[str]] = {}
    for _, model, variant, _ in found:
        variants.setdefault(model, set()).add(variant)
    return {
        (task, model if len(variants[model]) == 1 else f"{model}@{variant}"): score
        for task, model, variant, score in found
    }


def _model_of(path: Path) -> tuple[str, str]:
    """The model of a result, and its revision, with the name of an experiment if it is one."""
    meta = path.with_name(META)
    names = _object(meta) if meta.is_file() else {}
    revision = path.parent
    variant = revision.name
    if revision.parent.name == "experiments":
        revision = revision.parent.parent
        variant = f"{revision.name}/{variant}"
    model = names.get("name") or revision.parent.name.replace("__", "/")
    return str(model), variant


def _scores(path: Path) -> Iterator[tuple[str, float]]:
    """Task and score, where a file is a result."""
    content = _object(path)
    if "task_name" not in content or "scores" not in content:
        return
    try:
        values = [
            float(subset["main_score"]) for split in content["scores"].values() for subset in split
        ]
        score = sum(values) / len(values)
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"{path}: expected {{scores: {{split: [{{main_score: number}}]}}}}, as mteb 1.11 and "
            "later write it. Take the file out, or score the task again."
        ) from error
    if not math.isfinite(score):
        raise UserError(f"{path}: its main score is {score}. Score the task again.")
    yield str(content["task_name"]), score


def _object(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: is not JSON that can be read ({error}).") from error
    return content if isinstance(content, dict) else {}
