"""The command ``init``: looks at a user's files and writes a recipe for them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sciembed_train.config.parser import CommandLine
from sciembed_train.config.program import program
from sciembed_train.config.recipes import find_recipe
from sciembed_train.corpus.recognise import FoundFile, look_at
from sciembed_train.corpus.validation import Paper
from sciembed_train.errors import UserError
from sciembed_train.text.cleaning import cleaned

WIDTH = 100
DATA = "data:\n"  # the line of a recipe after which the files are named


@dataclass(frozen=True)
class InitCommand:
    """What is looked at, and what is written.

    Args:
        source: a file of papers, or a folder with files of papers and citations.
        citations: a file of citations that lies elsewhere.
        recipe: the shipped recipe that the new one is made from.
        to: the recipe to write; by default in this folder, with the name of the source.
        columns: names of columns, by field, where they are not recognised.
    """

    source: str
    citations: str | None = None
    recipe: str = "own_citations"
    to: str | None = None
    columns: dict[str, str] = field(default_factory=dict)


def command_line() -> CommandLine:
    """The options of ``train init``."""
    line = CommandLine(
        "init",
        "Look at files of papers and citations: say what is recognised, show three papers, and "
        "write a recipe that is ready to run.",
        examples=("my_papers/", "papers.csv --citations cites.csv --map title=headline"),
        aliases={"map": "columns"},
    )
    line.add(InitCommand, positionals=("source",))
    return line


def main(argv: list[str]) -> int:
    """The command ``train init``."""
    command = command_line().read(argv).get(InitCommand)
    source = Path(command.source)
    files = look_at(source, command.columns)
    if command.citations is not None:
        files += look_at(Path(command.citations), command.columns)
    for file in files:
        print("\n".join(_described(file)))
    papers = _together(source, files) or _only(files, "papers")
    citations = _only([file for file in files if file.kind == "citations"], "citations", none=True)
    assert papers is not None
    recipe_path = Path(command.to or f"{source.resolve().name.split('.')[0]}.yaml")
    text = _recipe(command, papers, citations)
    try:
        with recipe_path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise UserError(
            f"{recipe_path} exists already: remove it, or name another with --to."
        ) from error
    except OSError as error:
        raise UserError(f"{recipe_path} cannot be written: {error.strerror}.") from error
    print(f"\nWrote {recipe_path}. Next:")
    words = f"{program()} {{}} -c {shlex.quote(str(recipe_path))}"
    print(f"  {words.format('show')}    the texts as the model reads them, and how they are paired")
    print(f"  {words.format('fit')}     train; --model.encoder.backbone names another encoder")
    return 0


def _described(file: FoundFile) -> list[str]:
    """A description of a file, and its first papers."""
    kind = "not recognised" if file.kind == "other" else file.kind
    lines = [f"{file.path}: {kind}: {file.what}"]
    if file.kind == "papers":
        says = "name papers that they cite" if file.references else "name no papers that they cite"
        lines[0] += f"; the rows {says}"
    return lines + [_shown(paper) for paper in file.papers]


def _shown(paper: Paper) -> str:
    year = f" ({paper.year})" if paper.year else ""
    text = cleaned(" ".join(paper.sentences)) or "no abstract"
    line = f"{paper.paper_id} {cleaned(paper.title) or 'no title'}{year}: {text}"
    line = " ".join(line.split())
    return "  " + (line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}...")


def _together(source: Path, found: Sequence[FoundFile]) -> FoundFile | None:
    """The folder as one input if its files are papers of one format, as parts of a dump are."""
    files = [file for file in found if file.path.parent == source and file.kind != "other"]
    formats = {(file.kind, file.what) for file in files}
    if len(files) < 2 or len(formats) > 1 or files[0].kind != "papers":
        return None
    return replace(files[0], path=source)


def _only(found: Sequence[FoundFile], kind: str, none: bool = False) -> FoundFile | None:
    """The one file of a kind."""
    files = [file for file in found if file.kind == kind]
    if len(files) == 1 or (none and not files):
        return files[0] if files else None
    if not files:
        reasons = "\n".join(f"{file.path}: {file.what}" for file in found)
        raise UserError(f"No file of papers was recognised.\n{reasons}")
    names = ", ".join(str(file.path) for file in files)
    raise UserError(
        f"{len(files)} files hold {kind}: {names}. Name those that you mean: {program()} init "
        "PAPERS --citations CITATIONS, each a file, or a folder with nothing but files of one kind."
    )


def _recipe(command: InitCommand, papers: FoundFile, citations: FoundFile | None) -> str:
    """The text of the new recipe: the shipped one, with the files named."""
    text = find_recipe(command.recipe).read_text(encoding="utf-8")
    if f"\n{DATA}" not in text:
        raise UserError(f"{command.recipe} has no section `data`; give another with --recipe.")
    files = {"papers": papers.path, "citations": None if citations is None else citations.path}
    lines = [f"  {name}: {_quoted(path)}\n" for name, path in files.items() if path is not None]
    if command.columns:
        lines.append("  columns:\n" + _mapping(command.columns))
    if citations is None and not papers.references:
        text = text.replace("cocitations_from: references", "cocitations_from: given")
        print("\nThere are no citations: texts of one paper are paired with one another.")
    return text.replace(f"\n{DATA}", f"\n{DATA}{''.join(lines)}", 1)


def _mapping(columns: Mapping[str, str]) -> str:
    return "".join(f"    {name}: {_quoted(column)}\n" for name, column in columns.items())


def _quoted(value: object) -> str:
    """A value as a double-quoted text of YAML."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
