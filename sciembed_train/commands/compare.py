"""The command ``compare``: two papers sentence by sentence, by best match and by optimal
transport."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from sciembed_train.errors import UserError
from sciembed_train.inference.output_file import writable

if TYPE_CHECKING:
    from sciembed_train.corpus.validation import Paper
    from sciembed_train.inference.matching import Match, Matcher, Plan, SentenceVectors

SCORERS = ("sentences", "best_match", "transport")


def main(argv: list[str]) -> int:
    """Run ``train compare``."""
    args = _parse(argv)
    if args.picture is not None:
        if Path(args.picture).suffix != ".svg":
            raise UserError(f"--picture {args.picture}: is written as SVG; end its name in .svg.")
        writable(Path(args.picture), "--picture")
    if args.links < 0:
        raise UserError(f"--links is {args.links}; expected 0 or more.")

    from sciembed_train.inference.paper_file import PaperFile

    papers = find_papers(PaperFile(args.papers, args.max_bad_rows), args.papers, args.ids)

    from sciembed_train.inference.embedding import model_place
    from sciembed_train.inference.matching import Matcher, picture

    place = model_place(args.model)
    alone = None if args.scorer is None else args.scorer == "sentences"
    matcher = Matcher.load(place, alone=alone, device=args.device)
    wanted = args.scorer == "transport" or args.picture is not None
    if wanted and matcher.settings is None and args.temperature is None:
        raise UserError(
            f"{args.model} records no temperature for optimal transport, and results depend on "
            "it. Give --temperature: otAspire was trained with 5000, which makes all sentences "
            "weigh the same; its published code ranks with 1."
        )
    a, b = matcher.encode([{"title": p.title, "abstract": p.abstract} for p in papers])
    match = matcher.best_match(a, b)
    plan = None
    if matcher.settings is not None or args.temperature is not None:
        plan = matcher.transport(a, b, args.temperature)
    if plan is not None and args.picture is not None:
        picture(plan, args.picture)
    if args.json:
        result = as_json(args, matcher, a, b, match, plan)
        print(json.dumps(result, ensure_ascii=False))
    else:
        print("\n".join(as_text(args, matcher, a, b, match, plan)))
    sys.stdout.flush()
    return 0


def find_papers(papers: Any, source: str, ids: list[str]) -> list[Paper]:
    """The two papers of the given ids.

    Raises:
        UserError: one is not there, or has no abstract.
    """
    found: dict[str, Paper] = {}
    examples: list[str] = []
    for paper in papers:
        if len(examples) < 3:
            examples.append(paper.paper_id)
        if paper.paper_id in ids:
            found[paper.paper_id] = paper
    missing = [name for name in ids if name not in found]
    if missing:
        there = f"It has {len(papers):,} papers, such as {', '.join(examples)}."
        raise UserError(
            f"{source}: holds no paper with the id {' and none with '.join(missing)}. "
            + (there if examples else "It holds no paper at all.")
        )
    for name in ids:
        abstract = found[name].abstract
        # Of a list, all sentences may be blank.
        if not "".join(abstract or "").strip():
            raise UserError(
                f"{source}: the paper {name} has no abstract, so there are no sentences to "
                "compare. Give its abstract, or another paper."
            )
    return [found[name] for name in ids]


def as_text(
    args: argparse.Namespace,
    matcher: Matcher,
    a: SentenceVectors,
    b: SentenceVectors,
    match: Match,
    plan: Plan | None,
) -> Iterator[str]:
    """The lines that are printed."""
    for letter, name, paper in zip("AB", args.ids, (a, b), strict=True):
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
        f"{settings.blur:g}, scaling {settings.scaling:g})" + (", mostly of" if args.links else "")
    )
    for link in plan.links(args.links):
        pair = f"A{link.first + 1} - B{link.second + 1}"
        yield f"  {pair:<10} {100 * link.share:6.2f} %  distance {link.distance:.4f}"
    if args.picture is not None:
        yield f"Picture in {args.picture}."


def as_json(
    args: argparse.Namespace,
    matcher: Matcher,
    a: SentenceVectors,
    b: SentenceVectors,
    match: Match,
    plan: Plan | None,
) -> dict[str, Any]:
    """What ``--json`` prints; sentences count from 0."""
    return {
        "model": args.model,
        "alone": matcher.alone,
        "similarity": "cosine" if matcher.cosine else "euclidean",
        "papers": [
            {
                "paper_id": name,
                "title": paper.title,
                "sentences": list(paper.sentences),
                "left_out": list(paper.left_out),
            }
            for name, paper in zip(args.ids, (a, b), strict=True)
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


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="train compare",
        description="Compare two papers sentence by sentence: the two sentences nearest to each "
        "other, and what optimal transport moves between which. For multi-vector models and "
        "encoders of sentences; any other encoder is warned of.",
    )
    add = parser.add_argument
    add("ids", nargs=2, metavar="ID", help="the paper ids of the two")
    add("--model", required=True, metavar="FOLDER", help="a model folder, run folder or hub name")
    add(
        "--papers",
        required=True,
        metavar="F",
        help="papers: paper_id, title, abstract; .jsonl, .csv, .tsv, .parquet (.gz, .zst)",
    )
    add(
        "--scorer",
        choices=SCORERS,
        help="sentences: each encoded by itself; best_match and transport: in its paper. By "
        "default as the model was trained",
    )
    add(
        "--temperature",
        type=float,
        metavar="T",
        help="of optimal transport, instead of the model's",
    )
    add("--links", type=int, default=8, metavar="N", help="sentence pairs of the plan to show (8)")
    add("--picture", metavar="plan.svg", help="draw the plan as a heat map")
    add("--device", default="cpu", help="cpu (default), cuda, ...")
    add("--max-bad-rows", type=int, default=0, metavar="N", help="malformed rows to leave out")
    add("--json", action="store_true", help="print everything as JSON")
    return parser.parse_args(argv)
