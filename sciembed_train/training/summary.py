"""The summary at the end of a run: best step, scores, files, and the next commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sciembed_train.config.program import program


def summary_lines(results: Mapping[str, Any], folder: Path, exported: bool) -> Iterator[str]:
    """The lines before the verdict, of the content of ``results.json``.

    Args:
        results: of the run.
        folder: of the run.
        exported: whether it has an ``export``.
    """
    run, choice = results["run"], results["alpha"]
    yield ""
    score = "" if run["score"] is None else f", {run['monitor']} {run['score']:.4f}"
    yield f"best:    step {run['step']:,} of {run['steps']:,}{score} ({run['checkpoint']})"
    yield from width_lines(run.get("widths", {}))
    alpha = results["verdict"]["alpha"]
    share = "as trained" if alpha == 1 else f"{alpha:g} trained, the rest the start's"
    if choice is not None:
        kept = "" if choice["keeps_guards"] else "; a guard falls with every share"
        yield f"weights: {share}, by dev queries{kept}"
    elif results["alpha_note"]:
        none = ", none of the start's" if alpha == 1 else ""
        yield f"weights: {share}{none}: {results['alpha_note']}"
    yield ""
    yield from _table(results)
    yield ""
    yield from (f"note:    {note}" for note in results["notes"])
    if exported:
        yield f"export:  {folder / 'export'}"
    yield f"report:  {folder / 'report.html'}"
    if exported:
        model = f"--model {folder}"
        yield f"next:    {program()} embed {model} --input papers.jsonl --to vectors.npy"
        yield f"         {program()} evaluate {model} --benchmark retrieval --data FOLDER"
    for place, text in enumerate(results["advice"]):
        yield f"{'' if place else 'try:':<9}{text}"


def width_lines(widths: Mapping[str, float]) -> Iterator[str]:
    """The scores of shortened vectors; nothing if they were not measured.

    Args:
        widths: a held-out score by its name, of the full width first, then of the shorter ones.
    """
    if not widths:
        return
    (name, full), *shorter = widths.items()
    shown = [f"{name} {full:.4f}"]
    for name, score in shorter:
        kept = f" ({score / full:.1%} of it)" if full > 0 else ""
        shown.append(f"{name} {score:.4f}{kept}")
    yield f"widths:  {', '.join(shown)}"


def _table(results: Mapping[str, Any]) -> Iterator[str]:
    """Means before and after on test queries, beside BM25."""
    rows = [("on test queries", "start", "trained", "BM25", "difference", "queries")]
    for name, c in results["verdict"]["comparisons"].items():
        bm25 = results["bm25"].get(name)
        rows.append(
            (
                f"{name} {results['metrics'][name]}",
                f"{c['before']:.4f}",
                f"{c['after']:.4f}",
                "" if bm25 is None else f"{bm25:.4f}",
                f"{c['difference']:+.4f} ({c['low']:+.4f} to {c['high']:+.4f})",
                f"{c['queries']:,}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        yield "  ".join([f"{row[0]:<{widths[0]}}", *cells])
