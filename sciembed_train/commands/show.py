"""The command `show`: the texts as the model reads them, who meets whom, what was dropped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from textwrap import fill, indent
from typing import Any

from sciembed_train.config.recipe_options import RecipeCommandLine
from sciembed_train.config.run_settings import RunSettings
from sciembed_train.errors import UserError
from sciembed_train.sampling.data_settings import DataSettings


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


def describe_spans(corpus: Any, tokenizer: Any, examples: Any, chosen: Any) -> list[str]:
    """Paragraphs on some training documents: their spans in epoch 0 as the model reads them.

    Args:
        corpus: an open corpus.
        tokenizer: the encoder's.
        examples: the opened `SpanExamples`.
        chosen: numbers of training examples.
    """
    import numpy as np

    names = corpus.document_ids()
    paragraphs = []
    for index in chosen:
        batch = examples.batch(np.array([index]), epoch=0, step=0)
        rows = batch.rows.ids.split(batch.rows.lengths.tolist())
        document = int(examples.documents[index])
        tokens = int(examples.tokens.lengths[document])
        lines = [f"document {names[document]} ({tokens:,} tokens)"]

        def told(name: str, row: int, rows: Any = rows, lines: list[str] = lines) -> None:
            lines.append(f"  {name} ({len(rows[row])} tokens)")
            lines.append(indent(fill(tokenizer.hf.decode(rows[row].tolist()), 92), "    "))

        for number, (anchor, near) in enumerate(
            zip(batch.anchor.tolist(), batch.positive.tolist(), strict=True), start=1
        ):
            told(f"anchor {number}", anchor)
            for row in near:
                told(f"positive of anchor {number}", row)
        if len(batch.masked):
            lines.append(f"  {len(batch.masked)} tokens of the anchors are to be predicted")
        paragraphs.append("\n".join(lines))
    return paragraphs


def describe_pairs(corpus: Any, tokenizer: Any, examples: Any, order: Any, count: int) -> list[str]:
    """Paragraphs on the first pairs of a step: their texts, and whom each is compared with.

    Args:
        corpus: an open corpus.
        tokenizer: the encoder's.
        examples: the opened `PairExamples`.
        order: numbers of the step's examples.
        count: how many of them to show.
    """
    names, times = corpus.paper_ids(), corpus.cocitation_counts("train")
    batch = examples.batch(order, epoch=0, step=0)
    rows = batch.rows.ids.split(batch.rows.lengths.tolist())
    paragraphs = []
    for place, number in enumerate(order[:count].tolist()):
        a, b = (names[paper] for paper in examples.pairs[number].tolist())
        column = int(batch.negative[place])
        lines = [f"pair {number:,}: {a} and {b}, cited together {times[number]:,} times"]
        told = {"anchor": batch.anchor[place], "positive": batch.positive[place]}
        if column >= 0:
            told["negative, another pair's positive"] = batch.positive[column]
        for name, row in told.items():
            ids = rows[int(row)].tolist()
            lines.append(f"  {name} ({len(ids)} tokens)")
            lines.append(indent(fill(tokenizer.hf.decode(ids), 92), "    "))
        if column < 0:
            lines.append("  no negative: all others of the step are known to be cited with it")
        paragraphs.append("\n".join(lines))
    return paragraphs


def describe_citing_pairs(
    corpus: Any, tokenizer: Any, examples: Any, order: Any, count: int
) -> list[str]:
    """Paragraphs on the first pairs of a step: sentences, what they cite, and the negative.

    Args:
        corpus: an open corpus.
        tokenizer: the encoder's.
        examples: the opened `PairExamples` of citing sentences.
        order: numbers of the step's examples.
        count: how many of them to show.
    """
    names = corpus.paper_ids()
    comparisons = examples.comparisons.compare(order, 0, 0)
    papers, offsets = corpus.sentence_papers()
    paragraphs = []
    for place, number in enumerate(order[:count].tolist()):
        anchor, positive = comparisons.pairs[place].tolist()
        told = {"anchor": anchor, "positive": positive}
        if comparisons.negative[place] >= 0:
            told["negative, another pair's positive"] = int(
                comparisons.pairs[comparisons.negative[place], 1]
            )
        lines = [f"pair {number:,} of citing sentences"]
        for name, sentence in told.items():
            ids, _ = examples.tokens.rows([sentence], examples.max_length)
            cited = papers[offsets[sentence] : offsets[sentence + 1]].tolist()
            cites = ", ".join(names[paper] for paper in cited)
            lines.append(f"  {name}: cites {cites} ({len(ids)} tokens)")
            lines.append(indent(fill(tokenizer.hf.decode(ids.tolist()), 92), "    "))
        if comparisons.negative[place] < 0:
            lines.append("  no negative: all others of the step cite a paper in common with it")
        paragraphs.append("\n".join(lines))
    return paragraphs


def describe_sentence_pairs(
    corpus: Any, tokenizer: Any, examples: Any, order: Any, count: int
) -> list[str]:
    """Paragraphs on the first pairs of a step: their sentences, which say alike, and the negative.

    Args:
        corpus: an open corpus.
        tokenizer: the encoder's.
        examples: the opened `SentencePairExamples`.
        order: numbers of the step's examples.
        count: how many of them to show.
    """
    names, times = corpus.paper_ids(), corpus.cocitation_counts("train")
    batch = examples.batch(order, epoch=0, step=0)
    rows = batch.rows.ids.split(batch.rows.lengths.tolist())
    counts = batch.sentences.counts.tolist()
    places = zip(batch.sentences.starts.tolist(), batch.sentences.lengths.tolist(), strict=True)
    of_rows = [list(islice(places, n)) for n in counts]

    def read(row: int, start: int, size: int) -> str:
        return tokenizer.hf.decode(rows[row][start : start + size].tolist())

    paragraphs = []
    for place, number in enumerate(order[:count].tolist()):
        a, b = (names[paper] for paper in examples.pairs[number].tolist())
        lines = [f"pair {number:,}: {a} and {b}, cited together {times[number]:,} times"]
        column = int(batch.negative[place])
        told = {"anchor": batch.anchor[place], "positive": batch.positive[place]}
        if column >= 0:
            told["negative, another pair's positive"] = batch.positive[column]
        for name, aligned in zip(told, [*batch.aligned[place].tolist(), -1], strict=False):
            row = int(told[name])
            lines.append(f"  {name} ({len(rows[row])} tokens, {counts[row]} sentences)")
            lines.append(indent(fill(read(row, 0, of_rows[row][0][0]), 92), "    "))
            for i, sentence in enumerate(of_rows[row]):
                text, mark = read(row, *sentence), "=> " if i == aligned else " - "
                lines.append(
                    fill(text, 96, initial_indent="    " + mark, subsequent_indent=" " * 7)
                )
        if batch.aligned[place].min() >= 0:
            lines.append("  => marks the two sentences that are said to be alike")
        if column < 0:
            lines.append("  no negative: all others of the step are known to be cited with it")
        paragraphs.append("\n".join(lines))
    return paragraphs


def describe_tasks(tokenizer: Any, examples: Any, plan: Any, count: int) -> list[str]:
    """Paragraphs on the first examples of every task in a step: their texts and labels.

    Args:
        tokenizer: the encoder's.
        examples: the opened `TaskExamples`.
        plan: theirs.
        count: examples of each task.
    """
    from sciembed_train.batch import LabelPart
    from sciembed_train.text.input_format import FORMATS

    batch = examples.batch(plan.indices(0), epoch=0, step=0)
    rows = batch.rows.ids.split(batch.rows.lengths.tolist())
    formats = [list(FORMATS)[number] for number in batch.formats.tolist()]
    tasks = {task.name: task for task in examples.tasks}
    paragraphs = []
    for part in batch.parts:
        task = tasks[part.task]
        for place in range(min(count, len(part))):
            if isinstance(part, LabelPart):
                told = {"text": part.text[place]}
                label = part.label[place].tolist()
                if task.multi_label:
                    label = ", ".join(n for n, yes in zip(task.labels, label, strict=True) if yes)
                elif task.labels:
                    label = task.labels[label]
                head = f"task {task.name} ({task.type}): {label or 'no label'}"
            else:
                names = ("anchor", "positive", "negative")
                told = {name: getattr(part, name)[place] for name in names}
                head = f"task {task.name} ({task.type})"
            lines = [head]
            for name, row in told.items():
                ids = rows[int(row)].tolist()
                lines.append(f"  {name} ({len(ids)} tokens, read for {formats[int(row)]})")
                lines.append(indent(fill(tokenizer.hf.decode(ids), 92), "    "))
            paragraphs.append("\n".join(lines))
    return paragraphs


@dataclass(frozen=True)
class ShowCommand:
    """What is shown.

    Args:
        count: examples.
        cache: where the corpora are kept that are made of a recipe's files, as for ``fit``; null
            for ``.cache`` below where runs go.

    Raises:
        UserError: ``count`` is negative.
    """

    count: int = 3
    cache: str | None = None

    def __post_init__(self) -> None:
        if self.count < 0:
            raise UserError(f"--count must be 0 or more; got {self.count}.")


def command_line() -> RecipeCommandLine:
    """The options of ``train show``."""
    line = RecipeCommandLine(
        "show",
        "Show training examples as the model reads them, and what was left out and why.",
        examples=(
            "-c specter --data.corpus corpus",
            "-c declutr_small --data.fulltexts texts.jsonl --data.sampling.max_span 128 --count 1",
        ),
        common=(
            *("config", "data.corpus", "data.papers", "data.citations", "data.fulltexts"),
            *("data.contexts", "data.cocitations", "data.tasks", "model.encoder.backbone"),
            *("count", "cache"),
        ),
    )
    line.add(ShowCommand)
    return line


def main(argv: list[str]) -> int:
    """The command ``train show``."""
    recipe = command_line().read(argv)
    command, data, run = recipe.get(ShowCommand), recipe.get(DataSettings), recipe.get(RunSettings)
    if not recipe.backbone:
        raise UserError(
            "show needs the tokenizer: give -c RECIPE or --model.encoder.backbone NAME_OR_FOLDER."
        )

    from sciembed_train.corpus.summary import describe_report
    from sciembed_train.encoder.io.model_metadata import tokenizer_folder
    from sciembed_train.progress import Progress
    from sciembed_train.sampling.base import TokenizationSpec
    from sciembed_train.sampling.citing_pairs import CitingSentenceSampling
    from sciembed_train.sampling.cocitations import PairExamples
    from sciembed_train.sampling.plan import Plan, plan_for
    from sciembed_train.sampling.sentence_pairs import SentencePairExamples
    from sciembed_train.sampling.spans import SpanExamples
    from sciembed_train.sampling.tasks import TaskExamples
    from sciembed_train.text.tokenizer import TextTokenizer
    from sciembed_train.training.recipe_corpus import recipe_corpus, recipe_sampling
    from sciembed_train.training.run_folder import root_folder
    from sciembed_train.training.sampling_alignment import with_alignment

    encoder, progress = recipe.encoder, Progress(quiet=run.quiet)
    tokenizer = TextTokenizer.load(tokenizer_folder(encoder.backbone))
    cache = Path(command.cache) if command.cache else root_folder(run.root) / ".cache"
    corpus = recipe_corpus(data, encoder, cache, progress)
    input_format, max_length = encoder.input_format, encoder.max_length
    sampling = with_alignment(recipe_sampling(data), corpus, progress)
    examples = sampling.open(
        corpus, TokenizationSpec(tokenizer, input_format, max_length, data.seed), None
    )
    least = len(examples.tasks) if isinstance(examples, TaskExamples) else 1
    plan = plan_for(
        examples,
        max(least, min(data.batch_size, examples.train)),
        data.seed,
        by_query=data.group_by_query,
    )
    order: Any = plan.order(0) if isinstance(plan, Plan) else ()  # tasks have one each
    chosen = order[: command.count]
    print(
        f"{corpus.folder}: the first of {examples.train:,} training {examples.name} in epoch 0, "
        f"{plan.steps_per_epoch:,} steps of {plan.batch_size:,}\n"
    )
    if isinstance(examples, TaskExamples):
        texts = describe_tasks(tokenizer, examples, plan, command.count)
    elif isinstance(examples, SpanExamples):
        texts = describe_spans(corpus, tokenizer, examples, chosen)
    elif isinstance(sampling, CitingSentenceSampling):
        step = order[: plan.batch_size]
        texts = describe_citing_pairs(corpus, tokenizer, examples, step, command.count)
    elif isinstance(examples, PairExamples):
        step = order[: plan.batch_size]
        texts = describe_pairs(corpus, tokenizer, examples, step, command.count)
    elif isinstance(examples, SentencePairExamples):
        step = order[: plan.batch_size]
        texts = describe_sentence_pairs(corpus, tokenizer, examples, step, command.count)
    else:
        texts = describe_triplets(
            corpus, tokenizer, tokenizer.key(input_format), max_length, chosen
        )
    for text in texts:
        print(text + "\n")
    for note in examples.notes:
        print(note)
    report = json.loads((Path(corpus.folder) / "report.json").read_text(encoding="utf-8"))
    print(describe_report(report))
    return 0
