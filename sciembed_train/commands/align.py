"""The command ``align``: which sentences of co-cited papers are similar, by an encoder of
sentences."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sciembed_train.config.output_settings import OutputSettings
from sciembed_train.config.parser import CommandLine
from sciembed_train.corpus.alignment import MARKER, AlignSettings, alignment_folder
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.inference.alignment import aligned, check_name
from sciembed_train.inference.options import check_device
from sciembed_train.progress import Progress


@dataclass(frozen=True)
class AlignCommand:
    """What is aligned, and by which model.

    Args:
        corpus: a folder made by prepare, with co-cited papers.
        model: the encoder of single sentences: a model folder, a run folder or a hub name.
        name: of the alignment; made of the model and the settings where it is empty.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...; ``auto`` takes a GPU where there is one.
    """

    corpus: str
    model: str
    name: str = ""
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.name:
            check_name(self.name)
        check_device(self.device)


def command_line() -> CommandLine:
    """The options of ``train align``."""
    line = CommandLine(
        "align",
        "Find the most similar sentences of co-cited papers, by an encoder of sentences.",
        examples=(
            "corpus --model checkpoints/sentences",
            "corpus --model my_encoder --similarity dot --contexts 5 --name dot",
        ),
    )
    line.add(AlignCommand, positionals=("corpus",))
    line.add(AlignSettings)
    line.add(OutputSettings)
    return line


def main(argv: list[str]) -> int:
    """Run the command; 0 when done."""
    settings = command_line().read(argv)
    command, output = settings.get(AlignCommand), settings.get(OutputSettings)
    corpus = Corpus.open(command.corpus)
    name = aligned(
        corpus,
        command.model,
        settings.get(AlignSettings),
        command.name,
        Progress(quiet=not output.progress),
        command.device,
    )
    folder = alignment_folder(corpus, name)
    info = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    counts = [
        f"{split} {c['pairs']:,} ({c['with_contexts']:,} with citing sentences)"
        for split, c in info["counts"].items()
    ]
    text = f"{folder}: pairs aligned by {info['similarity']}: {', '.join(counts)}"
    if not any(c["with_contexts"] for c in info["counts"].values()):
        text += "\nno pair has a citing sentence: only data.sampling.align abstract can use it"
    output.show(text, {"alignment": str(folder), "name": name, **info})
    return 0
