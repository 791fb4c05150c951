"""The command `show`: the texts as the model reads them, how they are paired, what was dropped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from sciembed_train.config.recipe_options import RecipeCommandLine
from sciembed_train.config.run_settings import RunSettings
from sciembed_train.errors import UserError
from sciembed_train.sampling.data_settings import DataSettings


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

    from sciembed_train.corpus.corpus_truncation import truncation_lines
    from sciembed_train.corpus.summary import cleaned_examples, describe_report
    from sciembed_train.encoder.io.model_metadata import tokenizer_folder
    from sciembed_train.progress import Progress
    from sciembed_train.sampling.base import TokenizationSpec, format_example
    from sciembed_train.text.tokenizer import TextTokenizer
    from sciembed_train.training.recipe_corpus import (
        check_used,
        recipe_corpus,
        recipe_sampling,
        with_alignment,
    )
    from sciembed_train.training.run_folder import root_folder
    from sciembed_train.training.start_encoder import settle_start

    check_used(data, recipe.typed)
    settle_start(recipe)
    encoder, progress = recipe.encoder, Progress(quiet=run.quiet)
    tokenizer = TextTokenizer.load(tokenizer_folder(encoder.backbone))
    cache = Path(command.cache) if command.cache else root_folder(run.root) / ".cache"
    corpus = recipe_corpus(data, encoder, cache, progress)
    input_format, max_length = encoder.input_format, encoder.max_length
    sampling = with_alignment(recipe_sampling(data), corpus, progress)
    examples = sampling.open(
        corpus, TokenizationSpec(tokenizer, input_format, max_length, data.seed), None
    )
    plan = examples.plan(
        max(examples.min_batch_size, min(data.batch_size, examples.train)),
        data.seed,
        by_query=data.group_by_query,
    )
    print(
        f"{corpus.folder}: the first of {examples.train:,} training {examples.name} in epoch 0, "
        f"{plan.steps_per_epoch:,} steps of {plan.batch_size:,}\n"
    )
    for example in examples.describe(corpus, plan, command.count):
        print(format_example(example, tokenizer.hf.decode) + "\n")
    for note in examples.notes:
        print(note)
    for text, plain in cleaned_examples(corpus, input_format, command.count):
        print(f"cleaned (input_format.cleaning): {text}\n  is read as: {plain}")
    for line in truncation_lines(corpus, tokenizer, input_format, max_length):
        print(line)
    report = json.loads((Path(corpus.folder) / "report.json").read_text(encoding="utf-8"))
    print(describe_report(report))
    return 0
