"""The command ``mine``: hard negatives of a corpus's training papers, by an encoder."""

from __future__ import annotations

import json

import sciembed_train as st
from sciembed_train.config.output_settings import OutputSettings
from sciembed_train.config.parser import CommandLine
from sciembed_train.hard_negatives.mine_settings import MineSettings
from sciembed_train.inference.options import EmbedSettings
from sciembed_train.sampling.related_mask import RelatedMask


def command_line() -> CommandLine:
    """The options of ``train mine``."""
    line = CommandLine(
        "mine",
        "Rank all papers of a corpus for each training paper by an encoder, take out what the "
        "citations call related, and write those as hard negatives that are near, but less "
        "similar than the positives. A run that was killed continues where it stopped.",
        examples=(
            "corpus --model my_encoder --two-hop-first",
            "corpus --vectors vectors.npy --margin 0.9 --ranks 30:100 --name strict",
        ),
        common=(
            *("corpus", "model", "vectors", "name", "count", "margin", "ranks", "positive"),
            *("two_hop_first", "restart", "mask.cocited", "device", "json", "quiet"),
        ),
    )
    line.add(MineSettings, positionals=("corpus",))
    line.add(RelatedMask, "mask")
    line.add(EmbedSettings)
    line.add(OutputSettings)
    return line


def main(argv: list[str]) -> int:
    """Run the command; 0 when done."""
    settings = command_line().read(argv)
    output = settings.get(OutputSettings)
    mined = st.mine(
        **vars(settings.get(MineSettings)),
        mask=settings.get(RelatedMask),
        **vars(settings.get(EmbedSettings)),
        progress=output.progress,
    )
    if output.json:
        print(json.dumps(mined.as_dict()))
    elif not output.quiet:
        print(mined)
    return 0
