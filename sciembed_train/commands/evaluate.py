"""The command ``evaluate``: scores of a model, a baseline or a ranking on a benchmark."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from sciembed_train.errors import UserError
from sciembed_train.inference.options import EmbedSettings, ScoreSettings
from sciembed_train.inference.output_file import writable, write_json

if TYPE_CHECKING:
    from sciembed_train.evaluation.benchmarks.result import Result
    from sciembed_train.evaluation.by_format import Embedder
    from sciembed_train.evaluation.systems import System

BASELINES = ("bm25", "random")
BENCHMARKS = {
    "csfcube": "faceted query by example over judged pools; --data is the CSFCube folder",
    **dict.fromkeys(
        ("relish", "treccovid", "scidcite", "scidcocite", "scidcoread", "scidcoview"),
        "query by example over judged pools; --data is the folder as Aspire released it",
    ),
    "retrieval": "searches over a collection; --data holds papers, queries and qrels",
    "citations": "held-out query papers against all papers; --data is a corpus folder",
    "scirepeval": "tasks by format, as SciRepEval; --data is the folder of scirepeval_tasks.jsonl",
}
MANY = 6  # facets or tasks that stand beside each other in a table


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0 when done."""
    args = _parse(argv)
    target = None if args.to is None else writable(Path(args.to))
    name, result = evaluate(args)
    results = {
        "benchmark": args.benchmark,
        "model": name,
        "metrics": result.metrics,
        "per_query": result.per_query,
        "settings": {"data": str(args.data), **result.settings, "notes": result.notes},
    }
    if target is not None:
        write_json(target, results)
    if args.json:
        print(json.dumps(results, ensure_ascii=False))
    elif not args.quiet:
        print(table(args.benchmark, name, result))
        if target is not None:
            print(f"Written to {target}.")
    return 0


def evaluate(args: argparse.Namespace) -> tuple[str, Result]:
    """Name of what was scored, and its scores.

    Raises:
        UserError: options that do not belong together, or anything wrong with their files.
    """
    given = ScoreSettings.from_arguments(args).given
    if given and (args.ranking is not None or args.model in BASELINES):
        raise UserError(
            f"{given[0]} is about a model's vectors; leave it out for a ranking or a baseline."
        )
    if args.tasks and args.benchmark != "scirepeval":
        raise UserError(f"--tasks goes with --benchmark scirepeval, not {args.benchmark}.")
    if args.ranking is not None:
        if args.benchmark != "csfcube":
            raise UserError(
                f"--ranking goes with --benchmark csfcube, not {args.benchmark}; "
                "give --model instead."
            )
        from sciembed_train.evaluation.benchmarks import csfcube

        data = csfcube.CsfCube.open(args.data, args.facet)
        return str(args.ranking), csfcube.score(
            data, csfcube.read_rankings(args.ranking, data, args.facet)
        )
    system: System | Embedder
    if args.benchmark == "scirepeval":
        from sciembed_train.evaluation.benchmarks.scirepeval import scirepeval

        system = open_embedder(args)
        result = scirepeval.evaluate(args.data, system, args.tasks, args.quiet or args.json)
    elif args.benchmark == "csfcube":
        from sciembed_train.evaluation.benchmarks import csfcube
        from sciembed_train.inference.paper_file import PaperFile

        data = csfcube.CsfCube.open(args.data, args.facet)
        papers = PaperFile(args.papers or csfcube.paper_file(Path(args.data)))
        system = open_system(args)
        labels = csfcube.read_labels(papers, data) if system.by_sentence else None
        result = csfcube.evaluate(data, system, papers, labels)
    elif args.benchmark == "retrieval":
        from sciembed_train.evaluation.benchmarks import retrieval

        system = open_system(args)
        result = retrieval.evaluate(args.data, system, args.papers)
    elif args.benchmark == "citations":
        from sciembed_train.corpus.store.corpus_folder import Corpus
        from sciembed_train.evaluation.benchmarks import citations

        corpus = Corpus.open(args.data)
        system = open_system(args)
        result = citations.evaluate(corpus, system, args.split)
    else:
        from sciembed_train.evaluation.benchmarks import judged
        from sciembed_train.inference.paper_file import PaperFile

        data = judged.Judged.open(args.benchmark, args.data)
        papers = PaperFile(args.papers or judged.paper_file(args.benchmark, args.data))
        system = open_system(args)
        result = judged.evaluate(data, system, papers)
    result.settings = {**system.describe(), **result.settings}
    result.notes += system.notes
    return system.name, result


def open_system(args: argparse.Namespace) -> System:
    """The model or baseline that ``--model`` names."""
    from sciembed_train.evaluation import systems

    if args.model == "bm25":
        return systems.Bm25()
    if args.model == "random":
        return systems.Chance(args.seed)
    from sciembed_train.evaluation.scoring import scoring_of
    from sciembed_train.evaluation.sentence_model import SentenceModel

    quiet = args.quiet or args.json
    settings, asked = EmbedSettings.from_arguments(args), ScoreSettings.from_arguments(args)
    if scoring_of(args.model, settings, asked).scorer == "document":
        return systems.Model(args.model, settings, quiet, asked.similarity)
    return SentenceModel(args.model, settings, quiet, asked)


def open_embedder(args: argparse.Namespace) -> Embedder:
    """What ``--model`` names, as something that gives a vector of a text.

    Raises:
        UserError: it gives none.
    """
    from sciembed_train.evaluation.by_format import RandomVectors, model_vectors
    from sciembed_train.evaluation.systems import Model

    if args.model == "bm25":
        raise UserError("--benchmark scirepeval is about vectors, and bm25 gives none.")
    asked = ScoreSettings.from_arguments(args)
    if asked.scorer not in (None, "document"):
        raise UserError(
            f"--scorer {asked.scorer} does not go with --benchmark scirepeval, which takes one "
            "vector a text; leave it out."
        )
    if args.model == "random":
        return RandomVectors(args.seed)
    settings = EmbedSettings.from_arguments(args)
    quiet = args.quiet or args.json
    return model_vectors(Model(args.model, settings, quiet, asked.similarity, by_format=True))


def table(benchmark: str, name: str, result: Result) -> str:
    """The metrics as a table for people: one row a metric, one column a facet or task.

    With more of these than `MANY`, one row a facet or task and metric.
    """
    tasks = list(dict.fromkeys(key.rsplit("/", 1)[0] for key in result.metrics))
    names = list(dict.fromkeys(key.rsplit("/", 1)[1] for key in result.metrics))
    wide = max(len(n) for n in (*names, "metric"))
    lines = [f"{benchmark}: {name}", ""]
    if len(tasks) > MANY:
        long = max(len(key) for key in result.metrics)
        lines += [f"{key:<{long}}  {value:>10.4f}" for key, value in result.metrics.items()]
        return "\n".join([*lines, *_ending(result)])
    lines.append("  ".join([f"{'metric':<{wide}}", *(f"{task:>10}" for task in tasks)]))
    for metric in names:
        values = (result.metrics.get(f"{task}/{metric}") for task in tasks)
        cells = (
            f"{'' if v is None else f'{v:.4f}':>{max(10, len(t))}}"
            for v, t in zip(values, tasks, strict=True)
        )
        lines.append("  ".join([f"{metric:<{wide}}", *cells]))
    return "\n".join([*lines, *_ending(result)])


def _ending(result: Result) -> list[str]:
    queries = result.settings.get("queries")
    return ["", f"{queries} queries. {' '.join(result.notes)}".rstrip()]


def _parse(argv: list[str] | None) -> argparse.Namespace:
    known = "\n".join(f"  {name:<10} {what}" for name, what in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="train evaluate",
        description=f"Scores of a model, a baseline or a ranking.\n\nbenchmarks:\n{known}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--model",
        metavar="FOLDER",
        help="a model folder or hub name; or the baselines bm25 and random",
    )
    what.add_argument("--ranking", metavar="FILE|FOLDER", help="ranked pools as JSON (csfcube)")
    add("--benchmark", required=True, choices=BENCHMARKS)
    add("--data", required=True, metavar="FOLDER")
    add("--papers", metavar="F", help="the file of papers, where it lies elsewhere")
    add("--facet", metavar="NAME", help="one facet only (csfcube); of --ranking FILE")
    add("--split", choices=("test", "dev"), default="test", help="whose queries (citations)")
    add("--tasks", nargs="+", default=[], metavar="NAME", help="these or their types (scirepeval)")
    add("--seed", type=int, default=0, help="of --model random")
    add("--to", metavar="results.json", help="write the results, every query's with them")
    add("--json", action="store_true", help="print the results as JSON instead of a table")
    add("--quiet", action="store_true", help="print nothing")
    ScoreSettings.add_arguments(parser)
    EmbedSettings.add_arguments(parser)
    return parser.parse_args(argv)
