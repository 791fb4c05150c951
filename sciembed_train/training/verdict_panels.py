"""The verdict on the page of a run: scores before and after, the share of weights, neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from sciembed_train.report_page.frame import ordered_list, table
from sciembed_train.training.curves import Curve, figure


def verdict_panels(results: Mapping[str, Any] | None) -> list[str]:
    """The parts of the page, of the content of ``results.json``; none where there is none."""
    if results is None:
        return []
    verdict = results["verdict"]
    kind = verdict["outcome"].split()[0]
    parts = [
        "<h2>Verdict</h2>",
        f'<p class="verdict {kind}">{escape(verdict["line"])}</p>',
        _scores(results),
        *(f'<p class="dim">{escape(note)}</p>' for note in results["notes"]),
    ]
    if results["advice"]:
        parts.append("<p>Settings to try, the most promising first:</p>")
        parts.append(ordered_list([f"<code>{escape(text)}</code>" for text in results["advice"]]))
    return [*parts, *_alpha(results), *_neighbours(results["neighbours"])]


def _scores(results: Mapping[str, Any]) -> str:
    """Means before and after of target and guards, with intervals."""
    verdict = results["verdict"]
    head = ("", "start", "trained", "difference", "95 % interval", "p", "BM25", "queries")
    rows = []
    for name, c in verdict["comparisons"].items():
        bm25 = results["bm25"].get(name)
        rows.append(
            (
                name,
                f"{c['before']:.4f}",
                f"{c['after']:.4f}",
                f"{c['difference']:+.4f}",
                f"{c['low']:+.4f} to {c['high']:+.4f}",
                f"{c['p_value']:.2g}",
                "" if bm25 is None else f"{bm25:.4f}",
                f"{c['queries']:,}",
            )
        )
    start = results["start"]
    note = (
        f"The start is {start['name']}: pooling {start['pooling']}, at most {start['max_length']} "
        f"tokens, compared by {start['similarity']}. Scored in {start['precision']} on test "
        "queries, which chose nothing; paired bootstrap."
    )
    return f'{table(head, rows)}\n<p class="dim">{escape(note)}</p>'


def _alpha(results: Mapping[str, Any]) -> list[str]:
    """The curve of the share of trained weights."""
    choice = results["alpha"]
    if choice is None:
        why = results["alpha_note"]
        alpha = results["verdict"]["alpha"]
        share = "as trained" if alpha == 1 else f"{alpha:g} of the trained and the rest the start's"
        return [f'<p class="dim">The weights are {share}: {escape(why)}.</p>'] if why else []
    chosen = round(100 * choice["alpha"])
    figures = []
    for name, at_start in choice["start"].items():
        points = [(0, at_start)]
        points += [(round(100 * p["alpha"]), p["scores"][name]) for p in choice["curve"]]
        curve = Curve("val", points)
        figures.append(figure(name, [curve], (0, 100), best=chosen, unit="% of trained weights"))
    fallen = [
        f"{point['alpha']:g}: {', '.join(point['fallen'])}"
        for point in choice["curve"]
        if point["fallen"]
    ]
    chosen_for = "the best target at which no guard falls"
    if choice["near_start"]:
        chosen_for = (
            "the smallest share at which no guard falls and the target is not significantly lower "
            "than the best; a projection follows"
        )
    text = (
        f"Dev queries chose {choice['alpha']:g} of the trained weights, with the start's for the "
        f"rest: {chosen_for}."
    )
    text += f" Guards fall at {'; '.join(fallen)}." if fallen else ""
    text += "" if choice["keeps_guards"] else " One falls at every share: it is the smallest."
    return [
        "<h2>Share of the trained weights</h2>",
        f'<p class="dim">{escape(text)}</p>',
        "\n".join(["<section>", *figures, "</section>"]),
    ]


def _neighbours(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Nearest papers of some held-out papers before and after, side by side."""
    if not rows:
        return []
    parts = [
        "<h2>Nearest papers before and after</h2>",
        '<p class="dim">Of some held-out papers. Bold: a paper that it cites.</p>',
    ]
    for row in rows:
        columns = [
            ordered_list([_paper(paper) for paper in row[side]]) for side in ("before", "after")
        ]
        cells = "".join(f"<td>{column}</td>" for column in columns)
        parts.append(
            f"<h3>{escape(row['title'] or row['id'])} <small>{escape(row['id'])}</small></h3>\n"
            '<table class="neighbours"><tr><th>start</th><th>trained</th></tr>'
            f"<tr>{cells}</tr></table>"
        )
    return parts


def _paper(paper: Mapping[str, Any]) -> str:
    text = escape(paper["title"] or paper["id"])
    return f"<b>{text}</b>" if paper["cited"] else text
