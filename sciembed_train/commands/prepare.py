"""The command `prepare`: papers, citations and full texts into a corpus folder."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import Any, cast, get_args, get_type_hints

from sciembed_train.config.recipe import recipe_settings
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.mining.cocitation_mining import CocitationMining
from sciembed_train.corpus.mining.triplet_csv import export_csv
from sciembed_train.corpus.mining.triplet_mining import TripletMining
from sciembed_train.corpus.prepare_settings import FORMATS, PrepareSettings
from sciembed_train.corpus.report import STORES, summary
from sciembed_train.corpus.tasks.task_types import Negatives, TaskBuilding
from sciembed_train.progress import Progress
from sciembed_train.text.input_format import InputFormat


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train prepare",
        description="Check papers, citations, full texts and tasks, mine triplets, tokenise, and "
        "write a corpus.",
    )
    add = parser.add_argument
    add(
        "-c",
        "--config",
        action="append",
        default=[],
        metavar="RECIPE",
        help="a recipe: what to mine and how to tokenise; may be repeated",
    )
    add("--papers", help="file, folder or dataset of papers: paper_id, title, abstract")
    add("--citations", help="file, folder or dataset of citations: citing, cited")
    add(
        "--fulltexts",
        metavar="F_OR_FOLDER",
        help="full texts: JSON Lines, CSV or Parquet with text; .txt, one document a line; S2ORC; "
        "unarXive; a folder is searched with those within it",
    )
    add("--pairs", help="triplets given ready: query, positive, negative")
    add("--contexts", metavar="F", help="citing sentences: text, cited_ids; mined for pairs")
    add("--cocitations", metavar="F", help="pairs cited together: paper_a, paper_b, count")
    add(
        "--tasks",
        metavar="FILE_OR_FOLDER",
        help="SciRepEval's tasks_config.json, or the same in YAML; a folder: the tasks of its list "
        "that have data in it",
    )
    add("--to", required=True, metavar="CORPUS", help="the corpus folder to make")
    add(
        "--format",
        choices=FORMATS,
        default="auto",
        help="specter: data.json, metadata.json, train.txt, val.txt, test.txt in one folder; "
        "s2orc, unarxive: refuse full texts that are no such records",
    )
    add(
        "--tokenizer",
        metavar="NAME_OR_FOLDER",
        help="tokenise the texts with this; may be added later",
    )
    add(
        "--sentence-tokens",
        action="store_true",
        default=None,
        help="also tokenise for models that compare papers sentence by sentence (what the recipe "
        "says)",
    )
    add("--separator", choices=("sep", "space"), help="between title and abstract")
    add("--sentences", choices=("joined", "sep"), help="between the sentences of an abstract")
    add("--per-query", type=int, metavar="N", help="triplets of a query (5)")
    add("--hard", type=int, metavar="N", help="how many of them with a hard negative (2)")
    add(
        "--require-hard",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="leave out queries without a hard negative (yes)",
    )
    add(
        "--dev-share",
        type=float,
        metavar="X",
        help="share of papers held out as dev queries, and of documents (0.05)",
    )
    add(
        "--test-share",
        type=float,
        metavar="X",
        help="share of papers held out as test queries, and of documents (0.05)",
    )
    add("--dev-ids", metavar="F", help="ids held out as dev, one a line, in place of a share")
    add("--test-ids", metavar="F", help="ids held out as test, one a line, in place of a share")
    add("--exclude-ids", metavar="F", help="ids of papers that are in no co-cited pair")
    _add_cocitations(parser)
    _add_tasks(parser)
    add("--seed", type=int, metavar="N", help="of the split and every choice (0)")
    add("--memory", metavar="SIZE", help="memory to stay under (4GB)")
    add("--threads", type=int, metavar="N", help="of the database (one per core)")
    add(
        "--max-bad-rows",
        type=int,
        metavar="N",
        help="malformed rows of a file that are skipped (0)",
    )
    add("--csv", metavar="FOLDER", help="also write the triplets as CSV with paper ids")
    add("--quiet", action="store_true", help="print nothing but errors")
    add("--json", action="store_true", help="print the summary as JSON")
    return parser


COCITATION_HELP = {
    "cocitations_from": "references: papers that one paper cites are co-cited too; "
    "fulltexts: contexts are the citing sentences of --fulltexts (given)",
    "max_group": "papers that a context may cite (10)",
    "min_words": "words of a context, at least (5)",
    "max_words": "words of a context, at most (100)",
    "require_bracket": "leave out contexts without a bracket (no)",
    "one_per_citing": "of a group's contexts in one citing paper keep one (yes)",
    "min_contexts": "contexts that cite the same papers, at least (1)",
    "min_count": "how often a pair is cited together, at least (1)",
    "max_pairs": "pairs of one reference list or context, at most (1000)",
    "min_sentences": "sentences of an abstract, at least (0)",
    "max_sentences": "sentences of an abstract, at most; 0: no limit (0)",
    "longest_sentence": "words of a sentence of an abstract, at most; 0: no limit (0)",
    "short_sentence": "an abstract needs a sentence of more words (0)",
    "mask_mentions": "mask the citation marks of --contexts (yes)",
    "sentence_pairs": "also pairs of contexts that cite the same set of papers, or a paper in "
    "common (none)",
}


def _add_cocitations(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("co-cited papers")
    group.add_argument(
        "--faithful", action="store_true", help="Aspire's own numbers for all that follow"
    )
    kinds = get_type_hints(CocitationMining)
    for field in dataclasses.fields(CocitationMining):
        flag, told = f"--{field.name.replace('_', '-')}", COCITATION_HELP[field.name]
        if isinstance(field.default, bool):
            action = argparse.BooleanOptionalAction
            group.add_argument(flag, action=action, default=None, help=told)
        elif isinstance(field.default, int):
            group.add_argument(flag, type=int, metavar="N", help=told)
        else:
            group.add_argument(flag, choices=get_args(kinds[field.name]), help=told)


def _add_tasks(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("tasks")
    group.add_argument(
        "--task-triplets", type=int, metavar="N", help="triplets of a search, at most (5)"
    )
    group.add_argument(
        "--task-negatives",
        choices=get_args(Negatives),
        help="of a search: drawn by the seed, or the last of its list, as published (drawn)",
    )
    group.add_argument(
        "--dev-in-train",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="keep training examples that hold a text of a held-out example (no)",
    )


def _task_building(args: argparse.Namespace, recipe: TaskBuilding) -> TaskBuilding:
    """The recipe's settings with what the command line says of them."""
    said = {
        "per_query": args.task_triplets,
        "negatives": args.task_negatives,
        "dev_in_train": args.dev_in_train,
    }
    said = {name: value for name, value in said.items() if value is not None}
    return dataclasses.replace(recipe, **said)


def _cocitation_mining(args: argparse.Namespace, recipe: CocitationMining) -> CocitationMining:
    """The recipe's settings, or Aspire's own, with what the command line says of them."""
    before = recipe
    if args.faithful:  # of how it is mined; what is mined is the recipe's to say
        what = ("cocitations_from", "sentence_pairs")
        told = {name: getattr(recipe, name) for name in what}
        before = dataclasses.replace(CocitationMining.faithful(), **told)
    names = [field.name for field in dataclasses.fields(CocitationMining)]
    said = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return dataclasses.replace(before, **said)


def main(argv: list[str]) -> int:
    """The command ``train prepare``."""
    args = _parser().parse_args(argv)
    values = recipe_settings(args.config)
    names = (
        "papers",
        "citations",
        "pairs",
        "fulltexts",
        "contexts",
        "cocitations",
        "tasks",
        "tokenizer",
        "sentence_tokens",
        "dev_share",
        "test_share",
        "dev_ids",
        "test_ids",
        "exclude_ids",
        "seed",
        "memory",
        "threads",
        "max_bad_rows",
    )
    for name in names:
        if getattr(args, name) is not None:
            values[name] = getattr(args, name)
    mining = {n: getattr(args, n) for n in ("per_query", "hard", "require_hard")}
    mining = {name: value for name, value in mining.items() if value is not None}
    values["triplets"] = dataclasses.replace(values.get("triplets", TripletMining()), **mining)
    recipe = values.get("cocitation_mining", CocitationMining())
    values["cocitation_mining"] = _cocitation_mining(args, recipe)
    building = values.get("task_building", TaskBuilding())
    values["task_building"] = _task_building(args, building)
    input_format = {n: getattr(args, n) for n in ("separator", "sentences") if getattr(args, n)}
    values["input_format"] = dataclasses.replace(
        values.get("input_format", InputFormat()), **input_format
    )
    settings = PrepareSettings(to=args.to, format=cast(Any, args.format), **values)
    corpus = prepare(settings, Progress(quiet=args.quiet))
    if args.csv and "triplets" in corpus.info["counts"]:
        export_csv(corpus, args.csv)
    elif args.csv:
        told = "There are no triplets to write as CSV: they are mined from papers and citations."
        print(f"{told} {args.csv} was not written.", file=sys.stderr)
    if args.json:
        told = {"corpus": str(corpus.folder), **corpus.info["counts"]}
        stores = {name: corpus.info.get(name, {}) for name in STORES}
        print(json.dumps(told | stores))
    elif not args.quiet:
        print(summary(corpus))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
