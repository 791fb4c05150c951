"""Synthetic task files in the schema of SciRepEval."""

import json
from pathlib import Path
from typing import Any

import numpy as np

FIELDS = ("biology", "physics", "history")


def words(rng: np.random.Generator, k: int) -> str:
    return " ".join(f"word{w}" for w in rng.integers(0, 400, k))


def paper(rng: np.random.Generator, number: int, **more: Any) -> dict[str, Any]:
    """A record's paper; some have no abstract."""
    abstract = words(rng, 12) if number % 5 else None
    return {"corpus_id": number, "title": words(rng, 5), "abstract": abstract, **more}


def records(kind: str, n: int, seed: int = 0) -> list[dict[str, Any]]:
    """``n`` records of one of the eight tasks, by its name in ``tasks_config.json``."""
    rng = np.random.default_rng((seed, sum(map(ord, kind))))
    rows = []
    for i in range(n):
        if kind == "cite_pred":
            rows.append(paper(rng, i, n_citations=i, log_citations=float(np.log1p(i))))
        elif kind == "year_pred":
            rows.append(paper(rng, i, year=1990 + i % 30, scaled_year=(i % 30) / 30))
        elif kind == "mesh":
            rows.append(paper(rng, i, descriptor=FIELDS[i % 3], qualifier="methods"))
        elif kind == "fos":
            labels = sorted({FIELDS[i % 3], FIELDS[i % 2]})
            rows.append(paper(rng, i, labels_text=labels))
        elif kind == "search":
            scored = [
                paper(rng, j, venue="Journal" if j % 2 else "", year=2000.0 + j, score=int(j < 2))
                for j in range(8)
            ]
            rows.append({"query": words(rng, 3), "session_id": i, "candidates": scored})
        elif kind in ("s2and", "cite_context"):
            scored = [paper(rng, j, score=int(j < 3)) for j in range(6)]
            rows.append({"dataset": "d", "query": paper(rng, i), "candidates": scored})
        else:
            rows.append({"query": paper(rng, i), "pos": paper(rng, i), "neg": paper(rng, i)})
    return rows


def entry(kind: str) -> dict[str, Any]:
    """The entry of a task in the list, with a file of train."""
    result: dict[str, Any] = {"name": kind, "data_files": {"train": f"{kind}.jsonl"}}
    if kind in ("cite_pred", "year_pred"):
        field = {"cite_pred": "log_citations", "year_pred": "scaled_year"}[kind]
        return result | {"type": "regression", "labels_field": field, "ctrl_token": "[RGN]"}
    if kind in ("mesh", "fos"):
        result |= {"type": "classification", "labels": "labels.txt", "ctrl_token": "[CLF]"}
        if kind == "fos":
            result |= {"multi_label": True}
        return result | {"labels_field": {"mesh": "descriptor", "fos": "labels_text"}[kind]}
    if kind == "search":
        code = {"query": "[QRY]", "candidates": "[PRX]"}
        fields = ["title", "abstract", "venue", "year"]
        return result | {"type": "ir", "input_fields": fields, "ctrl_token": code}
    if kind in ("s2and", "cite_context"):
        return result | {"type": "ir", "ctrl_token": "[PRX]"}
    return result | {"type": "triplet", "ctrl_token": "[PRX]"}


EIGHT = (
    *("cite_pred", "year_pred", "mesh", "fos"),
    *("search", "s2and", "cite_context", "specter"),
)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_tasks(
    folder: Path,
    sizes: dict[str, int],
    seed: int = 0,
    **changed: dict[str, Any],
) -> Path:
    """A list of tasks and their files.

    Args:
        folder: where they go.
        sizes: records of each task.
        seed: of the texts.
        changed: by task, entries of the list that are added or replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.txt").write_text("\n".join(FIELDS) + "\n", encoding="utf-8")
    for kind, n in sizes.items():
        write_lines(folder / f"{kind}.jsonl", records(kind, n, seed))
    entries = [entry(kind) | changed.get(kind, {}) for kind in sizes]
    (folder / "tasks_config.json").write_text(json.dumps(entries), encoding="utf-8")
    return folder
