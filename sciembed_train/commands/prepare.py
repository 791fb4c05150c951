"""The command `prepare`: papers, citations and full texts into a corpus folder."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

from sciembed_train.config.recipe_options import Recipe, RecipeCommandLine, prepare_settings
from sciembed_train.config.run_settings import RunSettings
from sciembed_train.corpus.build import prepare
from sciembed_train.corpus.corpus_truncation import truncation_lines
from sciembed_train.corpus.mining.cocitation_settings import CocitationMining
from sciembed_train.corpus.mining.ready_triplets import export_csv
from sciembed_train.corpus.mining.triplet_mining import TripletMining
from sciembed_train.corpus.prepare_settings import CorpusSettings
from sciembed_train.corpus.store.corpus_folder import Corpus
from sciembed_train.corpus.summary import STORES, summary
from sciembed_train.diagnostics.stored_files import verify
from sciembed_train.encoder.io.model_metadata import tokenizer_folder
from sciembed_train.progress import Progress
from sciembed_train.sampling.data_settings import DataSettings
from sciembed_train.text.tokenizer import TextTokenizer
from sciembed_train.training.start_encoder import settle_start


@dataclasses.dataclass(frozen=True)
class PrepareCommand:
    """What is written.

    Args:
        to: the corpus folder to make.
        sentence_tokens: also tokenise for models that compare papers sentence by sentence, as for
            a recipe whose encoder's pooling is sentences.
        together: share the work with other processes that run this same command, such as those of
            a job array: triplets are mined and papers tokenised by all of them.
        csv: a folder where the triplets are written as CSV with paper ids, too.
        json: print the summary as JSON.
        verify: compare every file of the corpus at ``to`` with its checksum, and do nothing else.
    """

    to: str
    sentence_tokens: bool = False
    together: bool = False
    csv: str | None = None
    json: bool = False
    verify: bool = False


# Short names for options of a recipe.
ALIASES: dict[str, str] = {
    **{field.name: f"data.{field.name}" for field in dataclasses.fields(CorpusSettings)},
    **{
        field.name: f"data.{section}.{field.name}"
        for section, kind in (("triplets", TripletMining), ("cocitation_mining", CocitationMining))
        for field in dataclasses.fields(kind)
    },
    "map": "data.columns",
    "task_triplets": "data.task_building.per_query",
    "task_negatives": "data.task_building.negatives",
    "dev_in_train": "data.task_building.dev_in_train",
    "tokenizer": "model.encoder.backbone",
    "separator": "model.encoder.input_format.separator",
    "sentences": "model.encoder.input_format.sentences",
}
# The recipe still says what to mine; how to mine it is Aspire's.
FAITHFUL = {
    f"data.cocitation_mining.{name}": value
    for name, value in dataclasses.asdict(CocitationMining.faithful()).items()
    if name not in ("cocitations_from", "sentence_pairs")
}


def command_line() -> RecipeCommandLine:
    """The options of ``train prepare``."""
    line = RecipeCommandLine(
        "prepare",
        "Check papers, citations, full texts and tasks, mine examples, tokenise, and write a "
        "corpus. A recipe says what to mine and how to tokenise; without one: triplets where there "
        "are citations, and no tokens.",
        imports_classes=False,
        examples=(
            "-c specter --papers papers.jsonl --citations citations.csv --to corpus",
            "-c declutr_small --fulltexts texts/ --to corpus --memory 16GB",
        ),
        common=(
            *("config", "data.papers", "data.citations", "data.fulltexts", "data.contexts"),
            *("data.cocitations", "data.pairs", "data.tasks", "data.format", "to"),
            *(
                "data.exclude",
                "model.encoder.backbone",
                "data.memory",
                "data.max_bad_rows",
                "data.seed",
            ),
        ),
        aliases=ALIASES,
        presets={"faithful": FAITHFUL},
    )
    line.add(PrepareCommand)
    return line


def _cut(corpus: Corpus, recipe: Recipe) -> list[str]:
    """How many texts the recipe's encoder cuts; empty without a recipe: no length is known."""
    if not (recipe.files and recipe.backbone):
        return []
    encoder = recipe.encoder
    tokenizer = TextTokenizer.load(tokenizer_folder(encoder.backbone))
    return truncation_lines(corpus, tokenizer, encoder.input_format, encoder.max_length)


def main(argv: list[str]) -> int:
    """The command ``train prepare``."""
    recipe = command_line().read(argv)
    command, quiet = recipe.get(PrepareCommand), recipe.get(RunSettings).quiet
    if command.verify:
        print(verify(Path(command.to), Progress(quiet=quiet)))
        return 0
    if recipe.files:  # without one, the backbone names only a tokenizer
        settle_start(recipe)
    encoder = recipe.encoder if recipe.backbone else None
    chosen = {"sentence_tokens": True} if command.sentence_tokens else {}
    settings = prepare_settings(
        recipe.get(DataSettings), encoder, to=command.to, together=command.together, **chosen
    )
    corpus = prepare(settings, Progress(quiet=quiet))
    if command.csv and "triplets" in corpus.info["counts"]:
        export_csv(corpus, command.csv)
    elif command.csv:
        print(
            "There are no triplets to write as CSV: they are mined from papers and citations. "
            f"{command.csv} was not written.",
            file=sys.stderr,
        )
    if command.json:
        facts = {"corpus": str(corpus.folder), **corpus.info["counts"]}
        stores = {name: corpus.info.get(name, {}) for name in STORES}
        print(json.dumps(facts | stores))
    elif not quiet:
        print(summary(corpus, _cut(corpus, recipe)))
    return 0
