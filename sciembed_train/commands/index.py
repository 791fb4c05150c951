"""The command ``index``: an index of stored vectors, for ``search``."""

from __future__ import annotations

import sciembed_train as st
from sciembed_train.config.output_settings import OutputSettings
from sciembed_train.config.parser import CommandLine
from sciembed_train.search.index_settings import IndexSettings


def command_line() -> CommandLine:
    """The options of ``train index``."""
    line = CommandLine(
        "index",
        "Write a FAISS index of the vectors that embed wrote, with the papers' titles and a map of "
        "the collection. What an index that does not look at every vector misses is measured.",
        examples=(
            "--vectors vectors --papers papers.jsonl --to my_index",
            "--vectors vectors.npy --model my_encoder --to my_index --kind hnsw",
        ),
    )
    line.add(IndexSettings)
    line.add(OutputSettings)
    return line


def main(argv: list[str]) -> int:
    """Run the command; 0 when done."""
    settings = command_line().read(argv)
    output = settings.get(OutputSettings)
    built = st.build_index(**vars(settings.get(IndexSettings)), progress=output.progress)
    output.show(built, built.as_dict())
    return 0
