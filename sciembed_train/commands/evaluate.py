"""The command ``evaluate``: scores of a model, a baseline or a ranking on a benchmark; or, with
``--suite``, of several models on every benchmark that is there."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import sciembed_train as st
from sciembed_train.config.output_settings import OutputSettings
from sciembed_train.config.parser import CommandLine
from sciembed_train.errors import UserError
from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS
from sciembed_train.evaluation.evaluate_settings import BenchmarkSettings
from sciembed_train.evaluation.suite.suite_settings import SuiteSettings
from sciembed_train.inference.options import EmbedSettings, ScoreSettings


@dataclass(frozen=True)
class ResultsFile:
    """The results file.

    Args:
        to: a JSON file for the scores, every query's among them.
    """

    to: str | None = None


def command_line() -> CommandLine:
    """The options of ``train evaluate``."""
    line = CommandLine(
        "evaluate",
        "Score a model, a baseline or somebody's ranking on a benchmark; with --suite, several "
        "models on many.",
        details=("benchmarks:", *(f"  {name:<15} {b.summary}" for name, b in BENCHMARKS.items())),
        examples=(
            "--model checkpoints/specter --benchmark citations --data corpus --to results.json",
            "--suite my_benchmarks --model start --model checkpoints/tuned --to results",
        ),
        common=(
            *("benchmark", "data", "model", "ranking", "embeddings", "papers", "tasks"),
            *("to", "run_to"),
            *("scorer", "similarity", "device", "batch_tokens", "format_token", "json"),
            *("prompt", "query_prompt", "backend"),
        ),
    )
    for kind in (BenchmarkSettings, ResultsFile, ScoreSettings, EmbedSettings, OutputSettings):
        line.add(kind)
    return line


def suite_line() -> CommandLine:
    """The options of ``train evaluate --suite``."""
    line = CommandLine(
        "evaluate --suite",
        "Score several models on every benchmark of a folder, or of a YAML list: one table with "
        "significance, and in --to the same as JSON, CSV, Markdown and a page. What is there "
        "already is not computed again.",
        examples=(
            "my_benchmarks --model start --model checkpoints/tuned --model bm25 --to results",
            "my_benchmarks --model my_encoder --to results --dim 192 96 --dtype int8 binary",
            "suite.yaml --model my_encoder --to results --only csfcube retrieval --quick",
        ),
        common=(
            "suite",
            "model",
            "embeddings",
            "mteb_results",
            "to",
            "only",
            "quick",
            "full",
            "published",
            "ties",
            "dim",
            "dtype",
            "device",
            "json",
        ),
    )
    line.add(SuiteSettings, repeated=("model", "embeddings", "only", "dim", "dtype"))
    line.add(EmbedSettings, left_out=("dim",))
    line.add(OutputSettings)
    return line


def main(argv: list[str]) -> int:
    """Run the command; 0 when done."""
    if any(word == "--suite" or word.startswith("--suite=") for word in argv):
        return _suite(argv)
    if sum(word == "--model" or word.startswith("--model=") for word in argv) > 1:
        raise UserError(
            "Several --model go with --suite; one benchmark scores one model at a time."
        )
    settings = command_line().read(argv)
    output, target = settings.get(OutputSettings), settings.get(ResultsFile).to
    request = vars(settings.get(BenchmarkSettings))
    scores = st.evaluate(
        **request,
        to=target,
        progress=output.progress,
        embed=settings.get(EmbedSettings),
        score=settings.get(ScoreSettings),
    )
    files = [str(file) for file in (target, request["run_to"]) if file is not None]
    written = f"\nWritten to {' and '.join(files)}." if files else ""
    output.show(f"{scores}{written}", scores.as_dict())
    return 0


def _suite(argv: list[str]) -> int:
    settings = suite_line().read(argv)
    output = settings.get(OutputSettings)
    table = st.evaluate_suite(
        **vars(settings.get(SuiteSettings)),
        progress=output.progress,
        embed=settings.get(EmbedSettings),
    )
    text = table.text(bold=sys.stdout.isatty())
    output.show(f"{text}\nWritten to {table.folder}.", table.as_dict())
    return 0
