"""The command ``embed``: vectors of a file of papers, in the file's order."""

from __future__ import annotations

import sciembed_train as st
from sciembed_train.config.output_settings import OutputSettings
from sciembed_train.config.parser import CommandLine
from sciembed_train.inference.options import EmbedFileSettings, EmbedSettings


def command_line() -> CommandLine:
    """The options of ``train embed``."""
    line = CommandLine(
        "embed",
        "Write the vectors of a file of papers, or of their sentences where the model gives those. "
        "A run that was killed continues where it stopped. Several processes that run the same "
        "command, with a --to without an ending, write one folder of shards together.",
        examples=(
            "--model checkpoints/specter --input papers.jsonl --to vectors.npy",
            "--model my_adapters --input papers/ --to vectors --format-token proximity",
        ),
        common=(
            *("model", "input", "to", "shards", "shard_size", "max_bad_rows", "restart"),
            *("device", "precision", "batch_tokens", "format_token", "prompt", "backend"),
            *("json", "quiet"),
        ),
    )
    for kind in (EmbedFileSettings, EmbedSettings, OutputSettings):
        line.add(kind)
    return line


def main(argv: list[str]) -> int:
    """Run the command; 0 when done."""
    settings = command_line().read(argv)
    output = settings.get(OutputSettings)
    embeddings = st.embed(
        **vars(settings.get(EmbedFileSettings)),
        **vars(settings.get(EmbedSettings)),
        progress=output.progress,
    )
    output.show(embeddings, embeddings.as_dict())
    return 0
