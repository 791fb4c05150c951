"""The command ``merge``: the weights of several encoders of one architecture, interpolated."""

from __future__ import annotations

import sciembed_train as st
from sciembed_train.config.output_settings import OutputSettings
from sciembed_train.config.parser import CommandLine
from sciembed_train.export.merge_settings import MergeSettings


def command_line() -> CommandLine:
    """The options of ``train merge``."""
    line = CommandLine(
        "merge",
        "Write an encoder whose weights are a weighted mean of those of others of the same "
        "architecture, such as one before and after fine-tuning: it keeps most of what "
        "fine-tuning gained and most of what the start could do elsewhere.",
        examples=(
            "my_start checkpoints/own_citations --weights 0.5 0.5 --to merged",
            "runs/seed1 runs/seed2 runs/seed3 --to soup",
        ),
    )
    line.add(MergeSettings, positionals=("models",), words=("weights",))
    line.add(OutputSettings)
    return line


def main(argv: list[str]) -> int:
    """Run the command; 0 when done."""
    settings = command_line().read(argv)
    merged = st.merge(**vars(settings.get(MergeSettings)))
    settings.get(OutputSettings).show(merged, merged.as_dict())
    return 0
