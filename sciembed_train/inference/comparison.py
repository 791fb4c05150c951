"""Two papers sentence by sentence, as text for people and as plain values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

from sciembed_train.corpus.validation import Paper
from sciembed_train.errors import UserError
from sciembed_train.inference.matching import Match, Matcher, Plan, SentenceVectors
from sciembed_train.safety.find_model import model_place


@dataclass(frozen=True)
class Comparison:
    """The distances between the sentences of two papers.

    ``plan`` is None where neither the model nor the user names a temperature.
    """

    ids: tuple[str, str]
    papers: tuple[SentenceVectors, SentenceVectors]
    matcher: Matcher
    match: Match
    plan: Plan | None


def find_papers(papers: Iterable[Paper], source: str | Path, ids: Sequence[str]) -> list[Paper]:
    """The papers with the ids, in their order.

    Raises:
        UserError: there is no such paper, or it has no abstract.
    """
    by_id: dict[str, Paper] = {}
    examples: list[str] = []
    count = 0
    for paper in papers:
        count += 1
        if len(examples) < 3:
            examples.append(paper.paper_id)
        if paper.paper_id in ids:
            by_id[paper.paper_id] = paper
    missing = [name for name in ids if name not in by_id]
    if missing:
        has = f"It has {count:,} papers, such as {', '.join(examples)}."
        raise UserError(
            f"{source}: holds no paper with the id {' and none with '.join(missing)}. "
            + (has if examples else "It holds no paper at all.")
        )
    for name in ids:
        abstract = by_id[name].abstract
        # Of a list, all sentences may be blank.
        if not "".join(abstract or "").strip():
            raise UserError(
                f"{source}: the paper {name} has no abstract, so there are no sentences to "
                "compare. Give its abstract, or another paper."
            )
    return [by_id[name] for name in ids]


def compare_papers(
    papers: Sequence[Paper],
    model: str | Path,
    alone: bool | None = None,
    temperature: float | None = None,
    needs_plan: bool = False,
    device: str = "cpu",
) -> Comparison:
    """The nearest sentences of two papers, and their transport plan where there is a temperature.

    Args:
        papers: two papers with abstracts.
        model: a model folder, a run folder or a hub name.
        alone: encode each sentence by itself, or in its paper; None as the model was trained.
        temperature: of optimal transport, instead of the model's.
        needs_plan: refuse a model without a temperature.
        device: where the model runs.

    Raises:
        UserError: there is no such model, or no temperature for a plan that is needed.
    """
    matcher = Matcher.load(model_place(model), alone=alone, device=device)
    has_plan = matcher.settings is not None or temperature is not None
    if needs_plan and not has_plan:
        raise UserError(
            f"{model} records no temperature for optimal transport, and results depend on "
            "it. Give --temperature: otAspire was trained with 5000, which makes all sentences "
            "weigh the same; its published code ranks with 1."
        )
    first, second = matcher.encode([{"title": p.title, "abstract": p.abstract} for p in papers])
    return Comparison(
        ids=(papers[0].paper_id, papers[1].paper_id),
        papers=(first, second),
        matcher=matcher,
        match=matcher.best_match(first, second),
        plan=matcher.transport(first, second, temperature) if has_plan else None,
    )


def as_lines(comparison: Comparison, links: int) -> Iterator[str]:
    """The comparison for people, a line at a time, with that many sentence pairs of the plan."""
    matcher, match, plan = comparison.matcher, comparison.match, comparison.plan
    for letter, name, paper in zip("AB", comparison.ids, comparison.papers, strict=True):
        yield f"{letter}  {name}  {paper.title}"
        for n, sentence in enumerate(paper.sentences, start=1):
            yield fill(sentence, 96, initial_indent=f"  {letter}{n:<4}", subsequent_indent=" " * 7)
        if paper.left_out:
            count = len(paper.left_out)
            yield (
                f"  {count} more {'is' if count == 1 else 'are'} not seen: beyond "
                f"{matcher.encoder.settings.max_length} tokens, or without one."
            )
        yield ""
    measure = "cosine, as the distance of unit vectors" if matcher.cosine else "Euclidean distance"
    how = "each by itself" if matcher.alone else "in their papers"
    yield f"Sentences are encoded {how} and compared by {measure}."
    yield f"Best match: A{match.first + 1} - B{match.second + 1}, distance {match.distance:.4f}"
    if plan is None:
        yield "No optimal transport: the model records no temperature. Give --temperature for it."
        return
    settings = plan.settings
    yield (
        f"Optimal transport: cost {plan.cost:.4f} (temperature {settings.temperature:g}, blur "
        f"{settings.blur:g}, scaling {settings.scaling:g})" + (", mostly of" if links else "")
    )
    for link in plan.links(links):
        pair = f"A{link.first + 1} - B{link.second + 1}"
        yield f"  {pair:<10} {100 * link.share:6.2f} %  distance {link.distance:.4f}"


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """Plain values, for JSON; sentences count from 0."""
    matcher, match, plan = comparison.matcher, comparison.match, comparison.plan
    return {
        "alone": matcher.alone,
        "similarity": "cosine" if matcher.cosine else "euclidean",
        "papers": [
            {
                "paper_id": name,
                "title": paper.title,
                "sentences": list(paper.sentences),
                "left_out": list(paper.left_out),
            }
            for name, paper in zip(comparison.ids, comparison.papers, strict=True)
        ],
        "best_match": {
            "distance": match.distance,
            "first": match.first,
            "second": match.second,
        },
        "transport": None
        if plan is None
        else {
            "cost": plan.cost,
            "value": plan.value,
            **plan.settings.as_dict(),
            "plan": plan.plan.tolist(),
            "distances": plan.distances.tolist(),
            "marginals": [shares.tolist() for shares in plan.marginals],
        },
    }
