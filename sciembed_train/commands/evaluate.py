"""The command ``evaluate``: scores of a model, a baseline or a ranking on a benchmark."""

from __future__ import annotations

from dataclasses import dataclass

import sciembed_train as st
from sciembed_train.config.output_settings import OutputSettings
from sciembed_train.config.parser import CommandLine
from sciembed_train.evaluation.benchmarks.registry import BENCHMARKS
from sciembed_train.evaluation.evaluate_settings import BenchmarkSettings
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
        "Score a model, a baseline or somebody's ranking on a benchmark.",
        details=("benchmarks:", *(f"  {name:<15} {b.summary}" for name, b in BENCHMARKS.items())),
        examples=(
            "--model checkpoints/specter --benchmark citations --data corpus --to results.json",
            "--model bm25 --benchmark csfcube --data CSFCube",
        ),
        common=(
            *("benchmark", "data", "model", "ranking", "papers", "tasks", "to"),
            *("scorer", "similarity", "device", "batch_tokens", "format_token", "json"),
        ),
    )
    for kind in (BenchmarkSettings, ResultsFile, ScoreSettings, EmbedSettings, OutputSettings):
        line.add(kind)
    return line


def main(argv: list[str]) -> int:
    """Run the command; 0 when done."""
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
    written = "" if target is None else f"\nWritten to {target}."
    output.show(f"{scores}{written}", scores.as_dict())
    return 0
