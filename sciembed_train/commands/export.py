"""The command ``export``: a checkpoint or a run as a folder that other libraries load."""

from __future__ import annotations

import sciembed_train as st
from sciembed_train.config.output_settings import OutputSettings
from sciembed_train.config.parser import CommandLine
from sciembed_train.export.export_checkpoint import ExportSettings


def command_line() -> CommandLine:
    """The options of ``train export``."""
    line = CommandLine(
        "export",
        "Write a trained encoder as a folder that transformers and sentence-transformers load, "
        "proved by loading it back. (That of a multi-vector model is refused by "
        "sentence-transformers, which has no vectors of sentences in their papers.)",
        examples=(
            "checkpoints/specter --to my_encoder",
            "checkpoints/adapters --to my_adapter --layout adapterhub --adapter proximity",
        ),
    )
    line.add(ExportSettings, positionals=("source",))
    line.add(OutputSettings)
    return line


def main(argv: list[str]) -> int:
    """Run the command; 0 when done."""
    settings = command_line().read(argv)
    export = st.export_encoder(**vars(settings.get(ExportSettings)))
    settings.get(OutputSettings).show(export, export.as_dict())
    return 0
