"""The command ``compare``: two papers sentence by sentence, by best match and by optimal
transport."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sciembed_train.config.parser import CommandLine
from sciembed_train.errors import UserError
from sciembed_train.inference.options import check_bad_rows, check_device
from sciembed_train.inference.output_file import writable


@dataclass(frozen=True)
class CompareCommand:
    """What is compared.

    Args:
        first: the id of the first paper.
        second: the id of the second paper.
        model: a model folder, a run folder or a hub name.
        papers: the file of papers: ``paper_id``, ``title``, ``abstract``.
        scorer: ``sentences`` encodes each by itself; ``best_match`` and ``transport`` encode it in
            its paper. By default as the model was trained.
        temperature: of optimal transport, instead of the model's.
        links: the number of sentence pairs of the transport plan to show.
        picture: draw the plan as a heat map, an .svg file.
        device: ``cpu``, ``cuda``, ``cuda:1``, ...
        max_bad_rows: malformed rows that are left out; more of them end the command.
        json: print everything as JSON.

    Raises:
        UserError: a value is out of its range.
    """

    first: str
    second: str
    model: str
    papers: str
    scorer: Literal["sentences", "best_match", "transport"] | None = None
    temperature: float | None = None
    links: int = 8
    picture: str | None = None
    device: str = "cpu"
    max_bad_rows: int = 0
    json: bool = False

    def __post_init__(self) -> None:
        if self.picture is not None and Path(self.picture).suffix != ".svg":
            raise UserError(f"--picture {self.picture}: is written as SVG; end its name in .svg.")
        if self.links < 0:
            raise UserError(f"--links is {self.links}; expected 0 or more.")
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise UserError(f"--temperature is {self.temperature}; expected a number above 0.")
        check_bad_rows(self.max_bad_rows)
        check_device(self.device)


def command_line() -> CommandLine:
    """The options of ``train compare``."""
    line = CommandLine(
        "compare",
        "Compare two papers sentence by sentence: the two nearest sentences, and what optimal "
        "transport moves between which. For multi-vector models and encoders of sentences; for any "
        "other encoder there is a warning.",
        examples=(
            "W1 W2 --model my_multi_vector --papers papers.jsonl",
            "W1 W2 --model my_encoder --papers papers.csv --temperature 1 --picture plan.svg",
        ),
    )
    line.add(CompareCommand, positionals=("first", "second"))
    return line


def main(argv: list[str]) -> int:
    """Run the command; 0 when done."""
    command = command_line().read(argv).get(CompareCommand)
    if command.picture is not None:
        writable(Path(command.picture), "--picture")

    from sciembed_train.inference.comparison import as_dict, as_lines, compare_papers, find_papers
    from sciembed_train.inference.matching import picture
    from sciembed_train.inference.paper_file import PaperFile

    ids = (command.first, command.second)
    papers = find_papers(PaperFile(command.papers, command.max_bad_rows), command.papers, ids)
    comparison = compare_papers(
        papers,
        command.model,
        alone=None if command.scorer is None else command.scorer == "sentences",
        temperature=command.temperature,
        needs_plan=command.scorer == "transport" or command.picture is not None,
        device=command.device,
    )
    if comparison.plan is not None and command.picture is not None:
        picture(comparison.plan, command.picture)
    if command.json:
        print(json.dumps({"model": command.model, **as_dict(comparison)}, ensure_ascii=False))
    else:
        print("\n".join(as_lines(comparison, command.links)))
        if comparison.plan is not None and command.picture is not None:
            print(f"Picture in {command.picture}.")
    sys.stdout.flush()
    return 0
