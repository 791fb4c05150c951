"""The verb `show`: the texts as the model reads them, who meets whom, what was dropped."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from textwrap import fill, indent
from typing import Any

from sciembed_train.errors import UserError


def describe_triplets(
    corpus: Any, tokenizer: Any, key: str, max_length: int, chosen: Any
) -> list[str]:
    """Paragraphs on some training triplets: each paper's id, length, and text as it is read.

    Args:
        corpus: an open corpus.
        tokenizer: the tokenizer of the store.
        key: the token store's key.
        max_length: tokens of a text at most.
        chosen: rows of the training triplets.
    """
    import numpy as np

    store = corpus.tokens(key)
    ids = corpus.paper_ids()
    triplets, hard = corpus.triplets("train"), corpus.hard("train")
    special = len(store.prefix) + len(store.suffix)
    paragraphs = []
    for row in chosen:
        papers = np.asarray(triplets[row])
        flat, lengths = store.rows(papers, max_length)
        names = ("anchor", "positive", f"negative ({'hard' if hard[row] else 'easy'})")
        lines = [f"triplet {int(row):,}"]
        for name, paper, tokens in zip(
            names, papers, np.split(flat, np.cumsum(lengths)[:-1]), strict=True
        ):
            whole = int(store.lengths[paper]) + special
            cut = f", cut from {whole}" if whole > len(tokens) else ""
            lines.append(f"  {name}: {ids[paper]} ({len(tokens)} tokens{cut})")
            text = tokenizer.hf.decode(tokens.tolist())
            lines.append(indent(fill(text, 92), "    "))
        paragraphs.append("\n".join(lines))
    return paragraphs


def describe_report(report: dict[str, Any]) -> str:
    """What was read, kept and left out, a line a reason."""
    lines = []
    for name, part in report.items():
        if "rows" in part:
            lines.append(f"{name}: {part['kept']:,} of {part['rows']:,} rows used")
            reasons = {**part["malformed"], **part["dropped"]}
            for reason, dropped in reasons.items():
                first = f", first at {dropped['examples'][0]}" if dropped["examples"] else ""
                lines.append(f"  {dropped['count']:,}: {reason}{first}")
            lines.extend(f"  {note}" for note in part["notes"])
            continue
        lines.append(f"{name}:")
        lines.extend(f"  {reason}: {_brief(value)}" for reason, value in part.items())
    return "\n".join(lines)


def _brief(value: Any) -> str:
    if isinstance(value, dict) and "count" in value:
        return f"{value['count']:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_brief(inner)}" for key, inner in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train show",
        description="Show training triplets as the model reads them, and what was dropped.",
    )
    add = parser.add_argument
    add("-c", "--config", action="append", default=[], metavar="RECIPE", help="may be repeated")
    add("--data.corpus", dest="corpus", metavar="CORPUS", help="a folder made by prepare")
    add("--data.papers", dest="papers", metavar="F", help="or papers,")
    add("--data.citations", dest="citations", metavar="F", help="and citations, as fit takes them")
    add("--model.encoder.backbone", dest="backbone", metavar="NAME_OR_FOLDER")
    add("--count", type=int, default=3, metavar="N", help="triplets to show (3)")
    runs = os.environ.get("SCIEMBED_CHECKPOINTS") or "checkpoints"  # as fit has it
    add("--cache", default=f"{runs}/.cache", metavar="FOLDER", help="where fit keeps corpora")
    return parser


def main(argv: list[str]) -> int:
    """The command ``train show``."""
    args = _parser().parse_args(argv)
    if args.count < 0:
        raise UserError(f"--count must be 0 or more; got {args.count}.")

    from sciembed_train.corpus.prepare import PrepareSettings, cached_corpus
    from sciembed_train.corpus.progress import Progress
    from sciembed_train.corpus.recipe import recipe_sections, recipe_settings
    from sciembed_train.corpus.store import Corpus
    from sciembed_train.inputs import InputFormat, TextTokenizer
    from sciembed_train.sampling.triplets import Plan, epoch_order

    values = recipe_settings(args.config)
    data, encoder = recipe_sections(args.config)
    backbone = args.backbone or values.get("tokenizer")
    if backbone is None:
        raise UserError(
            "show needs the tokenizer: give -c RECIPE or --model.encoder.backbone NAME_OR_FOLDER."
        )
    tokenizer = TextTokenizer.load(backbone)
    form = values.get("form", InputFormat())
    corpus_folder = args.corpus or (None if args.papers else data.get("corpus"))
    if corpus_folder is not None:
        corpus = Corpus.open(corpus_folder)
    else:
        given = {"papers": args.papers, "citations": args.citations}
        values |= {name: value for name, value in given.items() if value is not None}
        if "papers" not in values:
            raise UserError(
                "show needs a corpus: give --data.corpus CORPUS, or --data.papers F and "
                "--data.citations F."
            )
        values |= {"tokenizer": backbone, "form": form}
        corpus = cached_corpus(PrepareSettings(**values), args.cache, Progress())
    triplets = corpus.triplets("train")
    seed, batch = int(data.get("seed") or 0), int(data.get("batch_size") or 1)
    plan = Plan(len(triplets), min(batch, len(triplets)), seed)
    order = epoch_order(len(triplets), seed, 0)
    max_length = int(encoder.get("max_length") or 512)
    print(f"{corpus.folder}: the first of {len(triplets):,} training triplets in epoch 0, ", end="")
    print(f"{plan.steps_per_epoch:,} steps of {plan.batch_size:,}\n")
    chosen = order[: args.count]
    for text in describe_triplets(corpus, tokenizer, tokenizer.key(form), max_length, chosen):
        print(text + "\n")
    report = json.loads((Path(corpus.folder) / "report.json").read_text(encoding="utf-8"))
    print(describe_report(report))
    return 0
